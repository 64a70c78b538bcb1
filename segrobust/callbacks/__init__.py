"""Lightning callbacks: robustness while a network trains, and checkpoints chosen by it."""

from segrobust.callbacks.checkpoint import KeptCheckpoint, RobustCheckpoint
from segrobust.callbacks.measurement import Measurement
from segrobust.callbacks.robustness import RobustnessEvaluation
from segrobust.callbacks.wandb_runs import require_wandb_login

__all__ = ("KeptCheckpoint", "Measurement", "RobustCheckpoint", "RobustnessEvaluation", "require_wandb_login")
