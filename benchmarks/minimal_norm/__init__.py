"""Minimal-norm attacks against each other: norm and success against passes."""
