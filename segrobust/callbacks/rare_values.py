"""Refuses monitors of Lightning that would ask for a robust metric before it is measured, or read it twice."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from segrobust.callbacks.access import callbacks_of
from segrobust.callbacks.log_keys import unknown_monitor

_MOST_EPOCHS: Final = 1000
"""Epochs whose validations are foreseen; patterns of validations and looks repeat long before."""


class _Looks(NamedTuple):
    """When something of Lightning looks at a key.

    Attributes:
        name: what looks.
        monitor: the key.
        at: after validations, at the ends of training epochs, or at training steps, where nothing was measured.
        every: looks in every such epoch, or at every such step.
        fix: what to write in its place.
    """

    name: str
    monitor: str
    at: Literal["validation", "epoch", "step"]
    every: int
    fix: str

    @property
    def often(self) -> str:
        """For messages."""
        if self.at == "step":
            return "between validations"
        if self.every > 1:
            return f"every {self.every} epochs"
        return "after every validation" if self.at == "validation" else "every epoch"


def require_values_in_time(trainer: Trainer, keys: Sequence[str], every_n_epochs: int) -> None:
    """Refuses monitors of Lightning that look more often than a key is measured.

    `EarlyStopping`, `ModelCheckpoint` and schedules with `ReduceLROnPlateau` fail before the first measurement, and
    take an old value for a new one later.

    Args:
        trainer: at the start of `fit`, and again at that of the training, where the number of its batches is known:
            nothing is refused before if validations depend on it.
        keys: that are measured.
        every_n_epochs: completed epochs between two measurements.

    Raises:
        ValueError: one of them looks more often, or has the old spelling of a key; the message has the line to write.
    """
    for looks in _all_looks(trainer, every_n_epochs):
        if looks.monitor not in keys and looks.monitor.replace("@", "_at_") in keys:
            raise ValueError(f"{looks.name}: {unknown_monitor(looks.monitor, keys)}")
        if looks.monitor in keys and not _always_new(trainer, looks, every_n_epochs):
            measured = "once an epoch" if every_n_epochs == 1 else f"every {every_n_epochs} epochs"
            often = ", or RobustnessEvaluation(every_n_epochs=1)" if _always_new(trainer, looks, 1) else ""
            raise ValueError(
                f"{looks.name} looks at {looks.monitor!r} {looks.often}, but RobustnessEvaluation measures it "
                f"{measured}: it would fail before the first measurement, and count old values later; write "
                f"{looks.fix}{often}"
            )


def _all_looks(trainer: Trainer, every_n_epochs: int) -> Iterator[_Looks]:
    for callback in callbacks_of(trainer):
        monitor = getattr(callback, "monitor", None)
        if isinstance(callback, EarlyStopping):
            at: Literal["validation", "epoch"] = "epoch" if callback._check_on_train_epoch_end else "validation"
            yield _Looks("EarlyStopping", callback.monitor, at, 1, f"RobustStopping({monitor=}, patience=...)")
        elif isinstance(callback, ModelCheckpoint) and isinstance(monitor, str):
            at = "epoch" if callback._should_save_on_train_epoch_end(trainer) else "validation"
            every, fix = callback._every_n_epochs, f"RobustCheckpoint({monitor=})"
            yield _Looks("ModelCheckpoint", monitor, at if every else "step", every, fix)
    for schedule in trainer.lr_scheduler_configs:
        if schedule.reduce_on_plateau and isinstance(schedule.monitor, str):
            fix = f'{{"interval": "epoch", "frequency": {every_n_epochs}}} in configure_optimizers'
            at_steps = schedule.interval == "step"
            yield _Looks(
                "ReduceLROnPlateau", schedule.monitor, "step" if at_steps else "epoch", schedule.frequency, fix
            )


def _always_new(trainer: Trainer, looks: _Looks, every_n_epochs: int) -> bool:
    """Whether a value was measured at the very moment of every look, or whether this is not known yet."""
    if looks.at == "step":
        return False
    if not _is_known(trainer):
        return True
    epochs = trainer.max_epochs if trainer.max_epochs not in (None, -1) else None
    measured = 0
    for epoch in range(_MOST_EPOCHS if epochs is None else min(epochs, _MOST_EPOCHS)):
        looked = (epoch + 1) % looks.every == 0
        new = False
        for completed in _validations(trainer, epoch):
            new = completed - measured >= every_n_epochs
            measured = completed if new else measured
            if looked and looks.at == "validation" and not new:
                return False
        if looked and looks.at == "epoch" and not (new and measured == epoch + 1):
            return False
    return True


def _by_the_clock(trainer: Trainer) -> bool:
    """Whether validations follow each other after some time, as with `val_check_interval="00:02:00:00"`."""
    return trainer._val_check_time_interval is not None  # type: ignore[attr-defined]  # set outside of its class


def _at_ends(trainer: Trainer) -> bool:
    """Whether validations are at the ends of epochs, however many batches these have; 1, a whole number, is a batch."""
    return isinstance(trainer.val_check_interval, float) and trainer.val_check_interval == 1


def _is_known(trainer: Trainer) -> bool:
    """Whether the moments of validations are known; if not, they are when the loaders have been made."""
    return _by_the_clock(trainer) or trainer.val_check_batch is not None or _at_ends(trainer)


def _validations(trainer: Trainer, epoch: int) -> list[int]:
    """Completed epochs at each validation within an epoch, from 0; more than two before its end count as two."""
    every = trainer.check_val_every_n_epoch
    if every is not None and (epoch + 1) % every:
        return []
    batches, interval = trainer.num_training_batches, trainer.val_check_batch
    if _by_the_clock(trainer) or (batches == float("inf") and isinstance(interval, int)):
        return [epoch, epoch]  # at any time, and in a stream without end
    if interval is None or interval == float("inf"):
        return [epoch + 1]
    first = epoch * batches if every is None else 0
    due = (first + batches) // interval - first // interval
    at_end = (first + batches) % interval == 0
    return [epoch] * int(min(due - at_end, 2)) + [epoch + 1] * at_end
