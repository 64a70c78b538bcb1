"""State in checkpoints with which a training can be interrupted anywhere and resumed exactly."""

import math
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

_PLANNED_STEPS = "planned_steps"
_LOADER = "training_loader"
_RANDOM_STATES = "random_states"


@runtime_checkable
class StatefulLoader(Protocol):
    """A training loader that knows its position in the epoch."""

    def state_dict(self) -> dict[str, int]:
        """Its position, as numbers."""

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes there."""


class ScheduleMismatchError(ValueError):
    """A resumed training would have another number of steps than planned."""


class ResumableTask(LightningModule):
    """Stores in checkpoints the position in the epoch, the generators' states, and the planned number of steps.

    Lightning stores the first too, but loses it if the number of steps is asked for before a training resumes, as
    learning-rate schedules do. The states of torch's generators are restored before the first batch, so that dropout
    draws the same numbers as without the interruption. A checkpoint of the last step of an epoch continues with the
    next epoch, and no training passes its planned number of steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self._states_to_restore: dict[str, Tensor] | None = None
        self._loader_state: dict[str, int] | None = None
        self._planned_steps: int | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds all of these, as tensors and numbers, so that `weights_only` loading works."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint[_RANDOM_STATES] = states
        checkpoint[_PLANNED_STEPS] = int(self.trainer.estimated_stepping_batches)
        loader = self.trainer.train_dataloader
        if isinstance(loader, StatefulLoader):
            checkpoint[_LOADER] = loader.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores all of these."""
        self._loader_state = checkpoint.get(_LOADER)
        self._states_to_restore = checkpoint.get(_RANDOM_STATES)
        self._planned_steps = checkpoint.get(_PLANNED_STEPS)

    def on_train_start(self) -> None:
        """Checks the number of steps, and moves Lightning's loop and the loader to their position in the epoch.

        Raises:
            ScheduleMismatchError: the resumed training has another number of steps than planned.
        """
        planned, self._planned_steps = self._planned_steps, None
        steps = int(self.trainer.estimated_stepping_batches)
        if planned is not None and planned != steps:
            raise ScheduleMismatchError(
                f"the training was planned for {planned} optimiser steps, and now has {steps}: the learning rate "
                "follows the first plan, and is 0 at its end. Continue with the same number of epochs, batch size and "
                "data, or start a new training from these weights (initial_weights of the task)"
            )
        self._begin_next_epoch()
        state, self._loader_state = self._loader_state, None
        loader = self.trainer.train_dataloader
        if state is not None and isinstance(loader, StatefulLoader):
            loader.load_state_dict(state)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Restores the generators' states once, after everything else that draws at the start of a training.

        Raises:
            ScheduleMismatchError: with the steps that are left, the training would pass its planned number of steps.
        """
        del batch
        self._require_plan(batch_idx)
        states, self._states_to_restore = self._states_to_restore, None
        if states is not None:
            torch.set_rng_state(states["cpu"].cpu())
            if "cuda" in states and self.device.type == "cuda":
                torch.cuda.set_rng_state(states["cuda"].cpu(), self.device)

    def _begin_next_epoch(self) -> None:
        """Begins a new epoch where the checkpoint was written at the end of one.

        Lightning (2.6) counts such an epoch as finished, but the next one not as begun. Checkpoints of the next epoch
        then look like those of a finished one, and resuming from them repeats the epoch. If the training is limited by
        `max_steps`, it also finishes the same epoch twice, which leaves out the samples of the next one.
        """
        loop: Any = self.trainer.fit_loop  # its counters have no public types
        epochs = loop.epoch_progress
        if loop.restarted_mid_epoch and epochs.current.processed == epochs.current.started:  # after its last step
            loop.reset_restart_stage()
        elif loop.restarted_on_epoch_end:  # with `max_steps` alone
            epochs.current.completed = epochs.current.processed
            epochs.total.completed = epochs.total.processed
            loop.epoch_loop.restarting = False
            loop.epoch_loop.reset_restart_stage()
            loop.reset_restart_stage()

    def _require_plan(self, batch_idx: int) -> None:
        """Compares the steps that are left in a resumed training with the plan; Lightning does so for `max_steps`."""
        trainer, epochs = self.trainer, self.trainer.max_epochs
        if trainer.ckpt_path is None or not self.automatic_optimization:
            return
        if trainer.max_steps != -1 or epochs is None or epochs == -1:
            return
        if getattr(trainer, "reload_dataloaders_every_n_epochs", 0):
            return  # epochs may differ in length
        accumulated = trainer.accumulate_grad_batches
        per_epoch = math.ceil(trainer.num_training_batches / accumulated)
        total = trainer.global_step + (epochs - trainer.current_epoch) * per_epoch - batch_idx // accumulated
        if total > epochs * per_epoch:
            raise ScheduleMismatchError(
                f"the training is at step {trainer.global_step}, in epoch {trainer.current_epoch}, batch {batch_idx}, "
                f"and would end after {total} optimiser steps; planned are {epochs * per_epoch}: the checkpoint "
                f"{trainer.ckpt_path} repeats steps that it has made. Resume from an earlier one, or start a new "
                "training from these weights (initial_weights of the task)"
            )
