"""Keys that callbacks of a training monitor, checked before the first epoch."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from segrobust.callbacks import RobustCheckpoint, RobustnessEvaluation, RobustStopping
from segrobust.callbacks.access import callbacks_of
from segrobust.callbacks.monitored import find_source
from segrobust.cli.nearest import did_you_mean


class UnknownMonitorError(ValueError):
    """A callback monitors a key that is not logged."""


class KnownMonitors(Callback):
    """Ends a training at its start if a callback monitors a key that is not logged.

    Keys of validations are known after the sanity check. A key is refused only if others with the same first part are
    logged then, as `val/mio` beside `val/miou`; what a training step logs is not known yet.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks the keys of robust metrics.

        Raises:
            UnknownMonitorError: no `RobustnessEvaluation` measures one.
        """
        for callback in callbacks_of(trainer) if stage == "fit" else ():
            if isinstance(callback, RobustCheckpoint | RobustStopping):
                try:
                    find_source(trainer, callback.monitor, type(callback).__name__)
                except ValueError as error:
                    raise UnknownMonitorError(str(error).split(" These are:")[0]) from None

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks the keys that the validation of the sanity check has logged.

        Raises:
            UnknownMonitorError: one is missing.
        """
        callbacks = callbacks_of(trainer)
        robust = (key for callback in callbacks if isinstance(callback, RobustnessEvaluation) for key in callback.keys)
        logged = sorted({*trainer.callback_metrics, *robust})
        for callback in callbacks:
            key = callback.monitor if isinstance(callback, ModelCheckpoint | EarlyStopping) else None
            if key is not None and key not in logged and _first(key) in map(_first, logged):
                raise UnknownMonitorError(
                    f"{type(callback).__name__}: nothing is logged as {key!r}: {did_you_mean(key, logged)}"
                )


def _first(key: str) -> str:
    return key.split("/")[0]
