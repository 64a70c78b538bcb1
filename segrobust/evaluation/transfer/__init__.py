"""Stored adversarial images evaluated on other networks."""
