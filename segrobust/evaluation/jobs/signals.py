"""Ctrl-C and SIGTERM ask for an end between two batches."""

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
    """Whether somebody asked for an end.

    Attributes:
        signal: the number of the signal that came; None while none has.
    """

    signal: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turns the first SIGINT or SIGTERM into a wish to stop; the second one does what it always did.

    The handler only notes the signal and says so on stderr: work in handlers may fall anywhere. Signals are left alone
    outside the main thread, where Python cannot catch them.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {int(number): signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, _frame: FrameType | None) -> None:
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
