"""Progress of an evaluation, printed through Lightning's progress bar."""

import time
from datetime import timedelta

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar

from segrobust.evaluation.engine.runtime_estimate import max_passes
from segrobust.evaluation.plan import Plan
from segrobust.evaluation.run.records import Record

_SECONDS_BETWEEN_LINES = 10.0


class ProgressLines:
    """Prints a line with the time left, at most every ten seconds; nothing if progress bars are off.

    The time left is an upper bound, computed from the passes so far and those that remain if no image finishes early.

    Args:
        trainer: gives the progress bar.
        plan: the attacks.
        num_images: images of this process.
    """

    def __init__(self, trainer: Trainer, plan: Plan, num_images: int) -> None:
        self._bar = trainer.progress_bar_callback if trainer.is_global_zero and _has_bar(trainer) else None
        self._started = self._last_line = time.monotonic()
        self._num_images = num_images
        self._passes_left = num_images * sum(sum(max_passes(call)) for call in plan.attack_calls)
        self._passes_done = 0
        self._images: set[int] = set()

    def advance(self, record: Record) -> None:
        """Counts a record that has been made."""
        self._images.add(record.sample_id)
        passes = record.num_forwards + record.num_backwards
        self._passes_done += passes
        self._passes_left -= passes
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.line(f"image {len(self._images)}/{self._num_images}, {record.attack}{self._time_left(now)}")

    def line(self, text: str) -> None:
        """Prints a line."""
        if self._bar is not None:
            self._bar.print(f"robustness: {text}")

    @property
    def elapsed(self) -> str:
        """Time since the start, as h:mm:ss."""
        return _clock(time.monotonic() - self._started)

    def _time_left(self, now: float) -> str:
        """The time left, if the passes of the attacks are known (nan is not above 0)."""
        if not (self._passes_left > 0 and self._passes_done > 0):
            return ""
        return f", at most {_clock((now - self._started) / self._passes_done * self._passes_left)} left"


def _has_bar(trainer: Trainer) -> bool:
    """Whether there is a progress bar that has not been disabled."""
    bar = trainer.progress_bar_callback
    return isinstance(bar, ProgressBar) and not getattr(bar, "is_disabled", False)  # the base class lacks the property


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
