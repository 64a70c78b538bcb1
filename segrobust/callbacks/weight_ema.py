"""Moving averages of the weights over a training."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class WeightEMA(WeightAveraging):
    """Exponential moving average of the weights, which is validated, attacked, saved and used at the end.

    `average <- d * average + (1 - d) * weights` after each step, with `d = min(decay, (1 + n) / (10 + n))` after n
    updates, so that the first weights are soon forgotten in a short training (as in timm's `ModelEmaV3` with warm-up).
    Buffers of floating point are averaged too.

    The averages stay in the task until validation ends, so that all callbacks see them, whatever their order.
    Checkpoints hold the averages as `state_dict`, and beside them what is needed to resume.

    Args:
        decay: d, in (0, 1).

    Raises:
        ValueError: a decay outside (0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must lie in (0, 1), got {decay}; leave the callback out to average nothing")
        self.decay = decay
        super().__init__(avg_fn=self._average)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Does nothing: other callbacks evaluate the averages here."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the task its own weights back."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Updates the averages after an optimiser step."""
        with torch.no_grad():
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _average(self, average: Tensor, current: Tensor, num_updates: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return current
        n = float(num_updates)
        return torch.lerp(average, current, 1 - min(self.decay, (1 + n) / (10 + n)))
