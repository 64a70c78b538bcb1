"""How long the work of a process has shown nothing, and the end of a process that hangs."""

import os
import sys
import threading
from typing import Final, NoReturn, Self

from segrobust.evaluation.jobs.progress import Counts, Progress
from segrobust.evaluation.reporting.report import duration
from segrobust.untrusted.printable import for_terminal

PERIOD: Final = 5.0
"""Longest time between two looks at the work, in seconds."""

SHORTEST_STALL: Final = 1200.0
"""Seconds without a pass before which no process counts as hanging, if no limit is given."""

REPORTED_AT: Final = 0.25
"""Share of the limit after which a process without a pass is reported."""

_LONGEST_PAUSES: Final = 40
"""So many times the longest pause between two passes of any process is a hang, if no limit is given."""


def stall_limit(stalled_after: float | None, longest: float) -> float:
    """Seconds without a pass after which a process counts as hanging.

    Args:
        stalled_after: as given by the user; None to judge by the longest pause.
        longest: longest pause between two passes so far, of any process.
    """
    return stalled_after or max(SHORTEST_STALL, _LONGEST_PAUSES * longest)


class Silence:
    """How long the work of this process has shown nothing: no pass, no image read, no record.

    Time is counted in looks at the work, so that a process that was stopped and continues, and a clock that jumps, make
    no silence.

    Attributes:
        progress: of the work; None before it starts.
        seconds: since the last sign of the work; 0 while there is no work.
        longest: the longest silence so far that ended.

    Args:
        period: seconds between two calls of `listen`.
    """

    def __init__(self, period: float) -> None:
        self.progress: Progress | None = None
        self.seconds = self.longest = 0.0
        self._period = period
        self._last_signs = -1

    def listen(self) -> None:
        """Looks at the work; called once in each period."""
        progress = self.progress
        if progress is None or not progress.is_working:
            self.seconds = 0.0
        elif progress.signs != self._last_signs:
            self.longest = max(self.longest, self.seconds)
            self.seconds, self._last_signs = 0.0, progress.signs
        else:
            self.seconds += self._period

    @property
    def where(self) -> str:
        """The present measurement, in words."""
        return "" if self.progress is None else self.progress.where

    @property
    def counts(self) -> Counts:
        """What this process has done."""
        return Counts() if self.progress is None else self.progress.counts


class LoneWatch:
    """A thread that reports a process without a team whose work shows nothing, within a `with` block.

    The process is ended where a time is given for that: nobody else can do its work, and it may be a debugger or a
    notebook that waits.

    Args:
        rank: number of this process.
        progress: of its work.
        stalled_after: seconds without a pass after which it ends; None to report alone, first after a quarter of the
            time after which a process of a team counts as hanging, then whenever the time has doubled.
    """

    def __init__(self, rank: int, progress: Progress, stalled_after: float | None) -> None:
        self._rank, self._stalled_after = rank, stalled_after
        self._period = min(PERIOD, (stalled_after or SHORTEST_STALL) / 8)
        self._silence = Silence(self._period)
        self._silence.progress = progress
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        self._thread.join()

    def _look(self) -> None:
        reported = 0.0
        while not self._left.wait(self._period):
            self._silence.listen()
            seconds = self._silence.seconds
            limit = stall_limit(self._stalled_after, self._silence.longest)
            if self._stalled_after is not None and seconds >= limit:
                end_main_process(self._rank, self._silence)
            reported = min(reported, seconds)  # 0 after a sign of the work
            if seconds >= max(REPORTED_AT * limit, 2 * reported):
                reported = seconds
                end = "--stalled_after ends a process that hangs" if self._stalled_after is None else ""
                report_silence(self._rank, seconds, self._silence.where, end or f"after {duration(limit)} it ends")


def report_silence(rank: int, seconds: float, where: str, rest: str) -> None:
    """Prints that a process has made no pass for some time."""
    _say(f"process {rank} has made no pass for {duration(seconds)}, in {where}; {rest}")


def end_main_process(rank: int, silence: Silence) -> NoReturn:
    """Ends this process, whose work nobody else does, with status 1; says what is missing."""
    progress = silence.progress
    assert progress is not None
    progress.write("stalled")
    missing = progress.num_images - progress.images_done
    end_process(
        rank,
        silence.seconds,
        silence.where,
        status=1,
        rest=f"records of {missing} images are missing, and the report; the same command continues",
    )


def end_process(rank: int, seconds: float, where: str, *, status: int, rest: str) -> NoReturn:
    """Ends this process, whose main thread hangs and therefore cannot be stopped from inside."""
    _say(f"process {rank} hangs, without a pass for {duration(seconds)}, in {where}: it ends. {rest}")
    os._exit(status)


def _say(text: str) -> None:
    sys.stderr.write(f"{for_terminal(text)}\n")
    sys.stderr.flush()
