"""Command lines: `segrobust`, and `train.py` and `evaluate.py` of a clone; all read the same experiment files."""

from segrobust.cli.dispatch import evaluate, main, train

__all__ = ["main", "train", "evaluate"]
