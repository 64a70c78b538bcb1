"""Early stopping by a robust metric, which is measured more rarely than Lightning's `EarlyStopping` looks."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from segrobust.callbacks.log_keys import higher_is_better
from segrobust.callbacks.monitored import find_source, trusted_value
from segrobust.callbacks.robustness_evaluation import RobustnessEvaluation


class RobustStopping(Callback):
    """Stops a training whose robustness, as measured by `RobustnessEvaluation`, no longer improves.

    Lightning's `EarlyStopping` looks after every validation: before the first evaluation it fails, and between two of
    them it counts the old value against its patience. This callback counts measurements. One that is not finite, or
    that a failed check makes unreliable, causes a warning and does not count.

    Larger or smaller is better by what the key means, as for `RobustCheckpoint`.

    Args:
        monitor: a key that `RobustnessEvaluation` logs; None for the same default as `RobustCheckpoint`.
        patience: measurements in a row without a better value after which the training stops.

    Attributes:
        best: the best value so far; None before there is one.
        waited: measurements since then.

    Raises:
        ValueError: patience below 1. At the start of `fit`: no `RobustnessEvaluation` among the callbacks, or none
            that logs `monitor`; the message names the nearest key.
    """

    def __init__(self, *, monitor: str | None = None, patience: int = 3) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1 measurement, got {patience}")
        self.monitor = monitor
        self.patience = patience
        self.best: float | None = None
        self.waited = 0
        self._last_step = -1
        self._source: RobustnessEvaluation | None = None
        self._key = ""

    @property
    def state_key(self) -> str:
        """Identifies what is watched."""
        return self._generate_state_key(monitor=self.monitor)

    def state_dict(self) -> dict[str, Any]:
        """What was seen, as plain Python."""
        return {"best": self.best, "waited": self.waited, "last_step": self._last_step}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what was seen."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]
        self._last_step = state_dict["last_step"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the evaluation that measures the monitored key."""
        self._source, self._key = find_source(trainer, self.monitor, "RobustStopping")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts a measurement of this validation, and stops the training if the patience is over."""
        if self._source is None or trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        measurement = self._source.fresh(trainer)
        if measurement is None or measurement.step == self._last_step:
            return
        self._last_step = measurement.step
        value = trusted_value(measurement, self._key, "not counted")
        if value is None:
            return
        sign = 1 if higher_is_better(self._key) else -1
        if self.best is None or sign * value > sign * self.best:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            trainer.should_stop = True
            rank_zero_info(
                f"RobustStopping: {self._key} has not improved on {self.best:.4g} in {self.waited} measurements; the "
                f"training stops in epoch {measurement.epoch}"
            )
