"""Refuses monitors of Lightning that would ask for a robust metric before it is measured, or read it twice."""

from collections.abc import Iterator, Sequence

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from segrobust.callbacks.access import callbacks_of
from segrobust.callbacks.log_keys import unknown_monitor


def require_values_in_time(trainer: Trainer, keys: Sequence[str], every_n_epochs: int) -> None:
    """Refuses monitors of Lightning that look more often than a key is measured.

    `EarlyStopping`, `ModelCheckpoint` and schedules with `ReduceLROnPlateau` fail before the first measurement, and
    take an old value for a new one later.

    Args:
        trainer: at the start of `fit`.
        keys: that are measured.
        every_n_epochs: completed epochs between two measurements.

    Raises:
        ValueError: one of them looks more often, or has the old spelling of a key; the message has the line to write.
    """
    for name, monitor, epochs, fix in _monitors(trainer, every_n_epochs):
        if monitor not in keys and monitor.replace("@", "_at_") in keys:
            raise ValueError(f"{name}: {unknown_monitor(monitor, keys)}")
        if monitor in keys and epochs % every_n_epochs:
            raise ValueError(
                f"{name} looks at {monitor!r} {_often(epochs)}, but RobustnessEvaluation measures it every "
                f"{every_n_epochs} epochs: it would fail before the first measurement, and count old values later; "
                f"write {fix}, or RobustnessEvaluation(every_n_epochs=1)"
            )


def _monitors(trainer: Trainer, every_n_epochs: int) -> Iterator[tuple[str, str, int, str]]:
    """What looks at a key: name, key, epochs between two looks, and what to write in its place."""
    validations = trainer.check_val_every_n_epoch or 1
    for callback in callbacks_of(trainer):
        monitor = getattr(callback, "monitor", None)
        if isinstance(callback, EarlyStopping):
            yield "EarlyStopping", callback.monitor, validations, f"RobustStopping(monitor={monitor!r}, patience=...)"
        elif isinstance(callback, ModelCheckpoint) and isinstance(monitor, str):
            epochs = callback._every_n_epochs or 1
            yield "ModelCheckpoint", monitor, epochs, f"RobustCheckpoint(monitor={monitor!r})"
    for schedule in trainer.lr_scheduler_configs:
        if schedule.reduce_on_plateau and isinstance(schedule.monitor, str):
            epochs = schedule.frequency if schedule.interval == "epoch" else 1
            fix = f'{{"interval": "epoch", "frequency": {every_n_epochs}}} in configure_optimizers'
            yield "ReduceLROnPlateau", schedule.monitor, epochs, fix


def _often(epochs: int) -> str:
    return "every epoch" if epochs == 1 else f"every {epochs} epochs"
