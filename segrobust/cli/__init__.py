"""Command lines: `train.py` trains, `evaluate.py` attacks what was trained; both read the same experiment files."""

from segrobust.cli.evaluation import EvaluateCLI, evaluate
from segrobust.cli.training import TrainCLI, train

__all__ = ["train", "evaluate", "TrainCLI", "EvaluateCLI"]
