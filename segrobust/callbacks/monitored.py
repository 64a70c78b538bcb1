"""What callbacks that act on a robust metric have in common: who measures it, and whether a value can be trusted."""

import math

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from segrobust.callbacks.access import callbacks_of
from segrobust.callbacks.log_keys import default_monitor, unknown_monitor
from segrobust.callbacks.measurement import Measurement
from segrobust.callbacks.robustness_evaluation import RobustnessEvaluation


def find_source(trainer: Trainer, monitor: str | None, asker: str) -> tuple[RobustnessEvaluation, str]:
    """The evaluation among the callbacks that measures a key, and the key.

    Args:
        trainer: whose callbacks are searched.
        monitor: the key; None for the default of the first evaluation.
        asker: class that needs it, for messages.

    Raises:
        ValueError: no `RobustnessEvaluation`, or none that logs the key; the message has the nearest one, and all.
    """
    sources = [callback for callback in callbacks_of(trainer) if isinstance(callback, RobustnessEvaluation)]
    if not sources:
        raise ValueError(f"{asker} needs a RobustnessEvaluation among the callbacks: it acts on what that measures")
    key = monitor or default_monitor(sources[0].plan, sources[0].prefix("val"))
    for source in sources:
        if key in source.keys:
            return source, key
    raise ValueError(unknown_monitor(key, [key for source in sources for key in source.keys]))


def trusted_value(measurement: Measurement, key: str, consequence: str) -> float | None:
    """The value under a key; None, with a warning, if a check failed or the value is not finite.

    Args:
        measurement: what was measured.
        key: which value.
        consequence: what the caller does instead, for the warning.
    """
    value = measurement.values[key]
    if measurement.failed_checks:
        rank_zero_warn(
            f"{consequence} in epoch {measurement.epoch}: {key} = {value:.4g} is not reliable, because checks failed: "
            f"{', '.join(measurement.failed_checks)}"
        )
        return None
    if not math.isfinite(value):
        rank_zero_warn(f"{consequence} in epoch {measurement.epoch}: {key} is {value}, which cannot be ranked")
        return None
    return value
