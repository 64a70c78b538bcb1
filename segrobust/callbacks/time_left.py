"""The remaining time of a training, in its progress bar."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class TimeLeft(Callback):
    """Shows `hours_left` of the whole training beside the bar of the epoch, validation and attacks included.

    It is computed from the optimiser steps since the start of this process, and not shown before the end of the first
    epoch, because validation may take longer than training.
    """

    def __init__(self) -> None:
        self._started = 0.0
        self._first_step = 0
        self._hours_per_step: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._started, self._first_step, self._hours_per_step = time.monotonic(), trainer.global_step, None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the time per step, once an epoch and its validation are complete."""
        done = trainer.global_step - self._first_step
        if done:
            self._hours_per_step = (time.monotonic() - self._started) / 3600 / done

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Shows the estimate."""
        if self._hours_per_step is not None:
            left = self._hours_per_step * (trainer.estimated_stepping_batches - trainer.global_step)
            pl_module.log("hours_left", left, prog_bar=True, logger=False)
