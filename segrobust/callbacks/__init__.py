"""Lightning callbacks: robustness during training, checkpoints selected by it, averaged weights, a guard."""

from segrobust.callbacks.measurement import Measurement
from segrobust.callbacks.overfitting_guard import OverfittingGuard
from segrobust.callbacks.robust_checkpoint import RobustCheckpoint, SavedCheckpoint
from segrobust.callbacks.robust_stopping import RobustStopping
from segrobust.callbacks.robustness_evaluation import RobustnessEvaluation
from segrobust.callbacks.time_left import TimeLeft
from segrobust.callbacks.wandb_runs import require_wandb_login
from segrobust.callbacks.weight_ema import WeightEMA

__all__ = (
    "SavedCheckpoint",
    "Measurement",
    "OverfittingGuard",
    "RobustCheckpoint",
    "RobustStopping",
    "RobustnessEvaluation",
    "TimeLeft",
    "WeightEMA",
    "require_wandb_login",
)
