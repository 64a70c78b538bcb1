"""Ctrl-C and SIGTERM stop the work between two batches."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interruption:
    """Whether a stop was requested.

    Attributes:
        signal: number of the signal that arrived; None before one does.
    """

    signal: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """The first SIGINT or SIGTERM requests a graceful stop; a second one is handled by the previous handler.

    Has no effect outside the main thread, where Python cannot handle signals.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {int(number): signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, _frame: FrameType | None) -> None:
        # Only set a field: a handler may run between any two instructions, also while a record is being written.
        interruption.signal = number
        os.write(2, b"\nstopping after this batch; nothing is lost (the same signal again stops at once)\n")
        signal.signal(number, before[number])

    for caught in _SIGNALS:
        signal.signal(caught, note)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
