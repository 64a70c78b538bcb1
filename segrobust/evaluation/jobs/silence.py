"""How long the work of a process has shown nothing, and the end of a process that hangs."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol, Self

from segrobust.evaluation.jobs.progress import Counts
from segrobust.evaluation.reporting.report import duration
from segrobust.evaluation.signs import signs_reported
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


class Work(Protocol):
    """What a thread looks at: `Progress`, or a `Stage`.

    Attributes:
        signs: grows with all that happens, passes included.
        is_working: whether signs are expected.
    """

    signs: int
    is_working: bool

    @property
    def where(self) -> str:
        """What is done at present, in words."""
        ...

    @property
    def counts(self) -> Counts:
        """What this process has done."""
        ...

    def stalled(self) -> str:
        """Notes that nothing more will happen, and says what is missing."""
        ...


@dataclass
class Stage:
    """A part of the work without planned measurements, before or after the attacks; see `stage`.

    Attributes:
        where: what is done at present, in words.
        missing: what is missing if it hangs.
        signs: samples that were read, and passes.
        is_working: whether these are expected.
    """

    where: str
    missing: str
    signs: int = 0
    is_working: bool = True
    counts: Counts = field(default_factory=Counts)

    def enter(self, where: str) -> None:
        """The next thing is done, by samples and passes."""
        self.where, self.is_working = where, True
        self.heard()

    def rest(self) -> None:
        """What is done next needs no pass of a network, such as drawing, and may take any time."""
        self.is_working = False

    def heard(self) -> None:
        """A sample was read, or a pass was made."""
        self.signs += 1

    def stalled(self) -> str:
        """See `Work`."""
        return self.missing


@contextmanager
def stage(follow: Callable[[Work | None], None], where: str, missing: str) -> Iterator[Stage]:
    """A part of the work without planned measurements, which a thread follows.

    Args:
        follow: of a `LoneWatch` or a `Heartbeat`.
        where: see `Stage`.
        missing: see `Stage`.
    """
    present = Stage(where, missing)
    follow(present)
    try:
        with signs_reported(present.heard):
            yield present
    finally:
        follow(None)


class Silence:
    """How long the work of this process has shown nothing: no pass, no image read, no record.

    Time is counted in looks at the work, so that a process that was stopped and continues, and a clock that jumps, make
    no silence.

    Attributes:
        work: that is looked at; None where there is none.
        seconds: since the last sign of the work; 0 while there is no work.
        longest: the longest silence so far that ended.

    Args:
        period: seconds between two calls of `listen`.
    """

    def __init__(self, period: float) -> None:
        self.work: Work | None = None
        self.seconds = self.longest = 0.0
        self._period = period
        self._last: tuple[Work | None, int] = None, 0

    def listen(self) -> None:
        """Looks at the work; called once in each period."""
        work = self.work
        if work is None or not work.is_working:
            self.seconds = 0.0
        elif (now := (work, work.signs)) != self._last:
            self.longest = max(self.longest, self.seconds)
            self.seconds, self._last = 0.0, now
        else:
            self.seconds += self._period

    @property
    def where(self) -> str:
        """What is done at present, in words."""
        return "" if self.work is None else self.work.where

    @property
    def counts(self) -> Counts:
        """What this process has done."""
        return Counts() if self.work is None else self.work.counts


class LoneWatch:
    """A thread that reports a process without a team whose work shows nothing, within a `with` block.

    The process is ended where a time is given for that: nobody else can do its work, and it may be a debugger or a
    notebook that waits.

    Args:
        rank: number of this process.
        stalled_after: seconds without a pass after which it ends; None to report alone, first after a quarter of the
            time after which a process of a team counts as hanging, then whenever the time has doubled.
    """

    def __init__(self, rank: int, stalled_after: float | None) -> None:
        self._rank, self._stalled_after = rank, stalled_after
        self._period = min(PERIOD, (stalled_after or SHORTEST_STALL) / 8)
        self._silence = Silence(self._period)
        self._reported = 0.0
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)

    def follow(self, work: Work | None) -> None:
        """Looks at this work from now on."""
        self._silence.work = work

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        self._thread.join()

    def look(self) -> None:
        """Looks at the work; the thread does it once in each period."""
        self._silence.listen()
        seconds = self._silence.seconds
        limit = stall_limit(self._stalled_after, self._silence.longest)
        if self._stalled_after is not None and seconds >= limit:
            end_main_process(self._rank, self._silence)
        self._reported = min(self._reported, seconds)  # 0 after a sign of the work
        if seconds >= max(REPORTED_AT * limit, 2 * self._reported):
            self._reported = seconds
            end = "--stalled_after ends a process that hangs" if self._stalled_after is None else ""
            report_silence(self._rank, seconds, self._silence.where, end or f"after {duration(limit)} it ends")

    def _keep_looking(self) -> None:
        while not self._left.wait(self._period):
            self.look()


def report_silence(rank: int, seconds: float, where: str, rest: str) -> None:
    """Prints that a process has made no pass for some time."""
    _say(f"process {rank} has made no pass for {duration(seconds)}, in {where}; {rest}")


def end_main_process(rank: int, silence: Silence) -> NoReturn:
    """Ends this process, whose work nobody else does, with status 1; says what is missing."""
    missing = "" if silence.work is None else f"{silence.work.stalled()}; "
    end_process(rank, silence.seconds, silence.where, status=1, rest=f"{missing}the same command continues")


def end_process(rank: int, seconds: float, where: str, *, status: int, rest: str) -> NoReturn:
    """Ends this process, whose main thread hangs and therefore cannot be stopped from inside."""
    _say(f"process {rank} hangs, without a pass for {duration(seconds)}, in {where}: it ends. {rest}")
    os._exit(status)


def _say(text: str) -> None:
    sys.stderr.write(f"{for_terminal(text)}\n")
    sys.stderr.flush()
