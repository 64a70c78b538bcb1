"""Signs of life of the processes that share an evaluation, and which of them hang."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from torch.distributed.distributed_c10d import Store

from segrobust.evaluation.jobs.progress import Counts
from segrobust.evaluation.jobs.silence import (
    PERIOD,
    REPORTED_AT,
    SHORTEST_STALL,
    Silence,
    Work,
    end_main_process,
    end_process,
    report_silence,
    stall_limit,
)
from segrobust.evaluation.reporting.report import duration


@dataclass(frozen=True)
class Sign:
    """What a process says of itself.

    Attributes:
        name: of the process, new at each start.
        silent: seconds in which its work has shown nothing: no pass, no image read, no record.
        longest: the longest such time so far that ended.
        where: what it works on.
        counts: what it has done.
    """

    name: str
    silent: float
    longest: float
    where: str
    counts: Counts

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str | bytes) -> "Sign":
        """From `to_text`."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "counts": Counts(**fields["counts"])})


class Heartbeat:
    """A thread that shows the others that this process lives, and whether its work does.

    A process whose machine or Python is gone sends nothing. One whose network hangs still sends, but its work shows
    nothing new. Process 0 decides, for all, which process hangs. Such a process cannot be stopped from inside, so its
    own thread ends it.

    Attributes:
        leave: called before the thread ends a process other than 0 that hangs.

    Args:
        rank: number of this process.
        world_size: number of processes.
        store: with keys of this start alone.
        name: of this process, new at each start.
        lost_after: seconds without a heartbeat after which another process counts as lost.
        stalled_after: seconds without a pass after which a process counts as hanging; None to judge by the longest
            pause so far.
        answer: called by process 0 with each beat.
        leave: see above.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        store: Store,
        name: str,
        *,
        lost_after: float,
        stalled_after: float | None,
        answer: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        self._rank, self._others = rank, [other for other in range(world_size) if other != rank]
        self._store, self._name = store, name
        self._lost_after, self._stalled_after = lost_after, stalled_after
        self._answer, self.leave = answer, leave
        self._period = min(PERIOD, lost_after / 5, (stalled_after or SHORTEST_STALL) / 8)
        self._silence = Silence(self._period)
        self._left = threading.Event()
        # A daemon, so that the heartbeats never keep a process alive whose main thread has ended.
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._signs: dict[int, Sign] = {}
        self._reported: set[int] = set()
        self._heard = {rank: (-1, time.monotonic()) for rank in self._others}  # last count, and when it was new

    def follow(self, work: Work | None) -> None:
        """Listens to this work from now on."""
        self._silence.work = work

    def start(self) -> None:
        """Sends heartbeats from now on."""
        self._thread.start()

    def end(self) -> None:
        """Sends no more."""
        self._left.set()
        self._thread.join()

    def counts(self) -> tuple[Counts, ...]:
        """What the other processes have done; process 0 alone hears of it."""
        return tuple(sign.counts for rank, sign in [*self._signs.items()] if rank != self._rank)

    def awaited(self) -> list[int]:
        """The other processes that have neither finished nor are lost.

        Clocks of machines differ, so nobody sends times: a process is lost if its counter has not changed for
        `lost_after` seconds on the clock of this process, which calls this again and again.
        """
        unfinished = [rank for rank in self._others if not self._store.check([f"finished/{rank}"])]
        for rank in unfinished:
            heard = self._store.add(f"alive/{rank}", 0)  # adding 0 reads a counter, also one that was never set
            if heard != self._heard[rank][0]:
                self._heard[rank] = heard, time.monotonic()
        return [rank for rank in unfinished if time.monotonic() - self._heard[rank][1] <= self._lost_after]

    def _beat(self) -> None:
        """Sends heartbeats until the work is done; ends a process that hangs, also after the store is gone."""
        with contextlib.suppress(RuntimeError):  # all errors of a store are RuntimeErrors, such as a lost host
            while not self._left.wait(self._period):
                self._store.add(f"alive/{self._rank}", 1)
                sign = self._listen()
                if self._rank:
                    self._store.set(f"sign/{self._rank}", sign.to_text())
                    if self._store.check([f"hangs/{self._name}"]):
                        self._end_hanging()
                else:
                    self._answer()
                    self._judge(sign)
        while not self._left.wait(self._period):
            sign = self._listen()
            if sign.silent >= self._limit([sign]):
                self._exit(1, "the store is gone; the same command continues")

    def _listen(self) -> Sign:
        """The sign of this process."""
        silence = self._silence
        silence.listen()
        return Sign(self._name, silence.seconds, silence.longest, silence.where, silence.counts)

    def _judge(self, own: Sign) -> None:
        """Reports processes that show no sign of work, and gives those up that are silent for too long."""
        for rank in self._others:
            if self._store.check([f"sign/{rank}"]):
                self._signs[rank] = Sign.from_text(self._store.get(f"sign/{rank}"))
        signs = {0: own, **self._signs}
        limit = self._limit(signs.values())
        for rank, sign in signs.items():
            if sign.silent < REPORTED_AT * limit:
                self._reported.discard(rank)
            elif rank not in self._reported:
                self._reported.add(rank)
                report_silence(rank, sign.silent, sign.where, f"after {duration(limit)} it counts as hanging")
            if sign.silent >= limit and rank:
                self._store.set(f"hangs/{sign.name}", "1")
            elif sign.silent >= limit:
                self._store.set("finished/0", "1")  # nobody waits for its records
                if not self.awaited():
                    end_main_process(self._rank, self._silence)

    def _limit(self, signs: Iterable[Sign]) -> float:
        """Seconds without a pass after which a process counts as hanging."""
        return stall_limit(self._stalled_after, max(sign.longest for sign in signs))

    def _end_hanging(self) -> NoReturn:
        """Ends this process, which is not process 0, and whose main thread hangs."""
        try:
            self.leave()
        finally:
            self._exit(0, "process 0 does its work")

    def _exit(self, status: int, rest: str) -> NoReturn:
        end_process(self._rank, self._silence.seconds, self._silence.where, status=status, rest=rest)
