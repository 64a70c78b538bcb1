"""Lightning callbacks: robustness while a network trains, checkpoints chosen by it, averaged weights, a guard."""

from segrobust.callbacks.averaging import WeightEMA
from segrobust.callbacks.checkpoint import KeptCheckpoint, RobustCheckpoint
from segrobust.callbacks.measurement import Measurement
from segrobust.callbacks.overfitting import OverfittingGuard
from segrobust.callbacks.robustness import RobustnessEvaluation
from segrobust.callbacks.time_left import TimeLeft
from segrobust.callbacks.wandb_runs import require_wandb_login

__all__ = (
    "KeptCheckpoint",
    "Measurement",
    "OverfittingGuard",
    "RobustCheckpoint",
    "RobustnessEvaluation",
    "TimeLeft",
    "WeightEMA",
    "require_wandb_login",
)
