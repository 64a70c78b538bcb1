"""Adversarial training on CamVid: what each recipe costs, and what it buys under strong attacks."""
