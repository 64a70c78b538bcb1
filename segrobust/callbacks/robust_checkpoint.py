"""Checkpoints selected by robustness, measured on exactly the weights that are saved."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from segrobust.callbacks.access import callbacks_of, is_dry_run
from segrobust.callbacks.log_keys import higher_is_better
from segrobust.callbacks.measurement import Measurement
from segrobust.callbacks.monitored import find_source, trusted_value
from segrobust.callbacks.robustness_evaluation import RobustnessEvaluation
from segrobust.tasks.checkpoint_files import use_atomic_checkpoints
from segrobust.tasks.log_directory import log_directory
from segrobust.untrusted.fields import list_of, number, read_fields, text, whole


@dataclass(frozen=True, kw_only=True)
class SavedCheckpoint:
    """A checkpoint file and the measurement that it was saved for."""

    path: str
    value: float
    epoch: int
    step: int


_READERS: Final = {"path": text(), "value": number(), "epoch": whole(), "step": whole()}


class RobustCheckpoint(Checkpoint):
    """Saves the most robust networks of a training, as measured by `RobustnessEvaluation`.

    Lightning's `ModelCheckpoint` reads the last value that was logged: with a key that is logged every few epochs, it
    fails before the first evaluation, and then assigns the value of an evaluation to all checkpoints until the next
    one. This callback saves right after an evaluation only, waits for the first one, and ignores values that are not
    finite or whose checks failed. The file is written before the one that it replaces is removed, by
    `segrobust.tasks.AtomicCheckpointIO` unless the trainer has another plugin for checkpoints.

    The key determines the direction: larger is better for mIoU, accuracy and norms, smaller for success rates.

    Args:
        monitor: a key that `RobustnessEvaluation` logs. None for the mIoU under the worst of several fixed-budget
            attacks at the middle radius, else under the first fixed-budget attack, else for the capped mean of the
            smallest norms of several minimal-norm attacks, else that of the first attack.
        dirpath: folder of the files; None for `<save_dir>/<name>/<version>/checkpoints` of the first logger, or
            `checkpoints` in the trainer's `default_root_dir`.
        filename: start of the file names, followed by epoch, step, monitored value and number of attacked images.
        save_top_k: number of files to keep; -1 for all.
        save_weights_only: save without the states that are needed to resume the training.

    Attributes:
        checkpoints: the saved checkpoints, best first.

    Raises:
        ValueError: `save_top_k` that is neither -1 nor positive. At the start of `fit`: no `RobustnessEvaluation` among
            the callbacks, or none that logs `monitor`; the message lists the existing keys.
    """

    def __init__(
        self,
        *,
        monitor: str | None = None,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str = "robust",
        save_top_k: int = 1,
        save_weights_only: bool = False,
    ) -> None:
        if save_top_k < 1 and save_top_k != -1:
            raise ValueError(f"save_top_k must be positive, or -1 to keep all, got {save_top_k}")
        self.monitor = monitor
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.filename = filename
        self.save_top_k = save_top_k
        self.save_weights_only = save_weights_only
        self.checkpoints: tuple[SavedCheckpoint, ...] = ()
        self._source: RobustnessEvaluation | None = None
        self._judged: Measurement | None = None
        self._key = ""
        self._folder = Path()

    @property
    def state_key(self) -> str:
        """Identifies what is saved."""
        return self._generate_state_key(monitor=self.monitor, filename=self.filename)

    @property
    def best_model_path(self) -> str:
        """File of the best network so far, as Lightning's `ckpt_path="best"` asks for it; empty before there is one."""
        return self.checkpoints[0].path if self.checkpoints else ""

    @property
    def best_model_score(self) -> float | None:
        """Monitored value of the best network so far."""
        return self.checkpoints[0].value if self.checkpoints else None

    def state_dict(self) -> dict[str, Any]:
        """What is saved, as plain Python."""
        return {"checkpoints": [asdict(checkpoint) for checkpoint in self.checkpoints]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores the list of saved checkpoints.

        Raises:
            ValueError: the checkpoint holds a state that this class does not give.
        """
        try:
            state = read_fields(state_dict, {"checkpoints": list_of(lambda value: read_fields(value, _READERS))})
        except ValueError as error:
            raise ValueError(f"the checkpoint's list of RobustCheckpoint is damaged: {error}") from error
        self.checkpoints = tuple(SavedCheckpoint(**each) for each in state["checkpoints"])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the trainer write checkpoints that are complete or absent."""
        use_atomic_checkpoints(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the evaluation that measures the monitored key, and the folder."""
        self._source, self._key = find_source(trainer, self.monitor, "RobustCheckpoint")
        shared = self.dirpath or (log_directory(trainer) or Path(trainer.default_root_dir)) / "checkpoints"
        self._folder = trainer.strategy.broadcast(shared)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if a value was measured in this validation and is among the best."""
        self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if a value was measured after the training and is among the best."""
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        """Judges the measurement of the network as it is, once."""
        if self._source is None or trainer.state.fn != TrainerFn.FITTING:
            return
        measurement = self._source.fresh(trainer)
        if measurement is None or measurement is self._judged:
            return
        self._judged = measurement
        if any(checkpoint.step == measurement.step for checkpoint in self.checkpoints):
            return
        value = trusted_value(measurement, self._key, "no checkpoint is saved")
        if value is not None:
            self._offer(trainer, measurement, value)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warns if nothing was measured, or if the value never improved."""
        if self._source is not None and not self._source.history and not is_dry_run(trainer):
            rank_zero_warn(
                f"RobustCheckpoint saved nothing: {self._key} was never measured, because no validation fell on an "
                f"epoch that RobustnessEvaluation(every_n_epochs={self._source.every_n_epochs}) evaluates"
            )
        elif self._source is not None and self.checkpoints and len(self._source.history) > 2:
            self._warn_of_no_progress()

    def _warn_of_no_progress(self) -> None:
        """Warns if the first measurement of the training was the best."""
        assert self._source is not None
        first, best = self._source.history[0], self.checkpoints[0]
        if best.step == first.step:
            later = [measurement.values[self._key] for measurement in self._source.history[1:]]
            rank_zero_warn(
                f"{self._key} never improved on its first evaluation, {best.value:.4g} in epoch {best.epoch}; later "
                f"it was {min(later):.4g} to {max(later):.4g}: the training did not make the network more robust"
            )

    def _offer(self, trainer: Trainer, measurement: Measurement, value: float) -> None:
        """Saves a checkpoint if it is among the best, and then removes the one that it replaces."""
        name = (
            f"{self.filename}-epoch={measurement.epoch:03d}-step={measurement.step:06d}-"
            f"{self._key.replace('/', '_')}={value:.4g}-images={measurement.num_images}.ckpt"
        )
        self._require_measured_weights(trainer)
        new = SavedCheckpoint(
            path=str(self._folder / name), value=value, epoch=measurement.epoch, step=measurement.step
        )
        ranked = best_first((*self.checkpoints, new), higher_wins=higher_is_better(self._key))
        self.checkpoints = ranked if self.save_top_k == -1 else ranked[: self.save_top_k]
        if new not in self.checkpoints:
            return
        trainer.save_checkpoint(new.path, self.save_weights_only)  # with this very state of `checkpoints`
        for displaced in ranked[len(self.checkpoints) :]:
            if self._may_be_removed(trainer, displaced):
                trainer.strategy.remove_checkpoint(displaced.path)

    def _require_measured_weights(self, trainer: Trainer) -> None:
        """Refuses to save other weights than were measured; Lightning's `WeightAveraging` saves its averages itself.

        Raises:
            ValueError: the weights that were validated and attacked are not in the task any more.
        """
        assert self._source is not None
        if self._source.swapped and not any(isinstance(each, WeightAveraging) for each in callbacks_of(trainer)):
            raise ValueError(
                "RobustCheckpoint would save other weights than were validated and attacked: something took these out "
                "of the task at the end of the validation. Take them out in on_validation_end of a callback that is "
                "listed after RobustCheckpoint, or use segrobust.callbacks.WeightEMA"
            )

    def _may_be_removed(self, trainer: Trainer, checkpoint: SavedCheckpoint) -> bool:
        """Whether a file may be removed: one that this callback saved here, and that the training did not resume from.

        The list comes from a checkpoint, which may be of somebody else.
        """
        path = Path(checkpoint.path).absolute()
        resumed = trainer.ckpt_path is not None and Path(trainer.ckpt_path).absolute() == path
        is_own = path.name.startswith(f"{self.filename}-epoch=") and path.suffix == ".ckpt"
        return is_own and path.parent == self._folder.absolute() and not resumed


def best_first(checkpoints: Iterable[SavedCheckpoint], *, higher_wins: bool) -> tuple[SavedCheckpoint, ...]:
    """Checkpoints sorted by value; ties go to the earlier one."""
    return tuple(sorted(checkpoints, key=lambda saved: (-saved.value if higher_wins else saved.value, saved.step)))
