"""Annealed PGD and robustness curves beside SEA, and what was tried on the way."""
