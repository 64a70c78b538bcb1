"""Adversarial evaluation and training of semantic segmentation networks."""

__version__ = "0.1.0"
