"""Command lines: `train.py` trains, `evaluate.py` attacks what was trained; both read the same experiment files."""

from segrobust.cli.evaluate_command import EvaluateCLI, evaluate
from segrobust.cli.train_command import TrainCLI, train

__all__ = ["train", "evaluate", "TrainCLI", "EvaluateCLI"]
