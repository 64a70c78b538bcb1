"""What a training has to keep so that it can be interrupted anywhere and go on as if it had not been."""

from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

_PLANNED_STEPS = "planned_steps"
_LOADER = "training_loader"
_RANDOM_STATES = "random_states"


@runtime_checkable
class StatefulLoader(Protocol):
    """A training loader that knows where in the epoch it is."""

    def state_dict(self) -> dict[str, int]:
        """Where it is, in numbers."""

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes there."""


class ScheduleMismatchError(ValueError):
    """A training cannot go on because it would have another number of steps than it was planned for."""


class ResumableTask(LightningModule):
    """Keeps in checkpoints where in the epoch the training is, the generators' states, and how many steps are planned.

    Lightning itself keeps the first, but loses it where the number of steps is asked for before a training goes on, as
    learning-rate schedules do. The states of torch's generators are put back before the first batch, so that dropout
    draws what it would have drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self._states_to_restore: dict[str, Tensor] | None = None
        self._loader_state: dict[str, int] | None = None
        self._planned_steps: int | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds all of it, as tensors and numbers, so that `weights_only` loading works."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint[_RANDOM_STATES] = states
        checkpoint[_PLANNED_STEPS] = int(self.trainer.estimated_stepping_batches)
        loader = self.trainer.train_dataloader
        if isinstance(loader, StatefulLoader):
            checkpoint[_LOADER] = loader.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it over."""
        self._loader_state = checkpoint.get(_LOADER)
        self._states_to_restore = checkpoint.get(_RANDOM_STATES)
        self._planned_steps = checkpoint.get(_PLANNED_STEPS)

    def on_train_start(self) -> None:
        """Refuses to go on by another plan, and goes to where the epoch was left.

        Raises:
            ScheduleMismatchError: the training that goes on has another number of steps than was planned.
        """
        planned, self._planned_steps = self._planned_steps, None
        steps = int(self.trainer.estimated_stepping_batches)
        if planned is not None and planned != steps:
            raise ScheduleMismatchError(
                f"the training was planned for {planned} optimiser steps, and now has {steps}: the learning rate "
                "follows the first plan, and is 0 at its end. Continue with the same number of epochs, batch size and "
                "data, or start a new training from these weights (initial_weights of the task)"
            )
        state, self._loader_state = self._loader_state, None
        loader = self.trainer.train_dataloader
        if state is not None and isinstance(loader, StatefulLoader):
            loader.load_state_dict(state)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Puts the generators' states back, once, after everything else that draws at the start of a training."""
        del batch, batch_idx
        states, self._states_to_restore = self._states_to_restore, None
        if states is not None:
            torch.set_rng_state(states["cpu"].cpu())
            if "cuda" in states and self.device.type == "cuda":
                torch.cuda.set_rng_state(states["cuda"].cpu(), self.device)
