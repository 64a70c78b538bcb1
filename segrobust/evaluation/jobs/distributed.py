"""Several processes that share one evaluation: their ranks, their `WorkSource`, how records are collected."""

import contextlib
import os
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from segrobust.evaluation.engine.work import SharedWork, StridedWork, WorkSource
from segrobust.evaluation.jobs.heartbeat import Heartbeat
from segrobust.evaluation.run.records import Record, merge_records

PATIENCE: Final = 1800.0
"""Timeout in seconds for all processes to join."""

_POLL: Final = 0.2

_ENDED: Final = "segrobust/ended"
"""Key that is "1" once process 0 has left."""

_calls: Final[dict[int, int]] = {}
"""Evaluations that this process has begun as this rank."""

_PIECE: Final = 4 * 2**20
"""Bytes in one entry of a store; torch's refuses 8 MiB."""


class StopRequestedError(Exception):
    """A signal arrived while processes waited for each other."""


class JobEndedError(Exception):
    """This process joined a job that process 0 has ended."""


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """This process among those that share one evaluation.

    With a store, a free process takes the next batch, and the main process collects the records where the processes
    share no file system. Without a store, each process has a fixed share, and knows of the others only through the
    files of the run directory.

    Args:
        rank: number of this process.
        world_size: number of processes.
        local_rank: its number on its machine, which selects its GPU.
        store: of `torch.distributed`, reached by all processes; it may outlive them. It serves any number of
            evaluations, which all processes make in the same order.
        lost_after: seconds without a heartbeat after which another process counts as lost.
        stalled_after: seconds without a forward or backward pass after which a process counts as hanging: it ends, and
            process 0 does its work. None for 40 times the longest pause between two passes of any process, and at
            least 20 minutes. A quarter of it is reported. Without a store, where no other process does the work, it
            ends with status 1 after this time, and None only reports it.

    Raises:
        ValueError: a rank outside 0..world_size - 1, or times that are not positive.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    store: Store | None = None
    lost_after: float = 60.0
    stalled_after: float | None = None

    def __post_init__(self) -> None:
        StridedWork((), self.rank, self.world_size)  # raises if the rank does not fit
        if not self.lost_after > 0:
            raise ValueError(f"lost_after must be positive, in seconds, got {self.lost_after}")
        if self.stalled_after is not None and not self.stalled_after > 0:
            raise ValueError(f"stalled_after must be positive, in seconds, or None, got {self.stalled_after}")

    @classmethod
    def from_environment(cls, *, stalled_after: float | None = None) -> Self:
        """As `torchrun` or `srun` started this process; one process where neither did.

        Under `srun`, `MASTER_ADDR` and `MASTER_PORT` name a machine and a free port for the store; without them the
        shares are fixed.

        Args:
            stalled_after: see `Distributed`.

        Raises:
            ValueError: variables that are no numbers.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        if "RANK" not in os.environ and "SLURM_STEP_NUM_TASKS" in os.environ:
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, world_size, local_rank = (_number(name, default) for name, default in zip(names, (0, 1, 0), strict=True))
        if world_size == 1:
            return cls(local_rank=local_rank, stalled_after=stalled_after)
        store = None
        if {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            store, _, _ = next(rendezvous("env://", rank, world_size))
        return cls(rank=rank, world_size=world_size, local_rank=local_rank, store=store, stalled_after=stalled_after)

    def for_one_call(self) -> Self:
        """The same processes for one more evaluation, which must not read the keys of those before it in the store.

        Evaluations are numbered in each process, which all make the same ones in the same order.
        """
        if self.store is None:
            return self
        number = _calls[self.rank] = _calls.get(self.rank, 0) + 1
        return replace(self, store=PrefixStore(f"segrobust/call/{number}", self.store))

    @property
    def is_main(self) -> bool:
        """Whether this is process 0, which reports for all."""
        return self.rank == 0


@dataclass(frozen=True)
class Team:
    """The processes of one start of a job, seen from one of them.

    They wait for each other once, at the start. A thread of each sends heartbeats. Process 0 does not wait for a
    process that is lost or hangs, and does its remaining work. A process that replaces a lost one may join at any time.

    Args:
        distributed: this one among the others.
        store: with keys of this start alone.
        directory: run directory of this process.
        is_shared: whether all processes see one run directory.
        heartbeat: of this process.
        stop: whether a signal arrived.
    """

    distributed: Distributed
    store: Store
    directory: Path
    is_shared: bool
    heartbeat: Heartbeat
    stop: Callable[[], bool]

    @classmethod
    @contextmanager
    def gathered(cls, distributed: Distributed, directory: Path, stop: Callable[[], bool]) -> Iterator[Self]:
        """Waits for all processes, and finds out whether they share the run directory.

        Args:
            distributed: this one among the others, with a store.
            directory: run directory of this process.
            stop: asked while waiting; True ends the wait.

        Raises:
            StopRequestedError: a signal arrived first.
            JobEndedError: process 0 has left already.
            TimeoutError: not all processes joined within `PATIENCE`.
        """
        root = distributed.store
        assert root is not None
        name = uuid4().hex
        leader = _wait_for_all(distributed, root, name, stop)
        store = PrefixStore(f"segrobust/{leader}", root)
        # Process 0 makes a file with a new name. A process that finds this file sees the same directory as process 0.
        if distributed.is_main:
            (directory / f".shared-{leader}").touch()
            store.set("token", f".shared-{leader}")
        path = directory / _get(store, "token", stop).decode()
        store.set(f"sees/{distributed.rank}", str(int(path.exists())))
        # This also keeps the processes together until all have answered.
        seen = [_get(store, f"sees/{rank}", stop) for rank in range(distributed.world_size)]
        heartbeat = Heartbeat(
            distributed.rank,
            distributed.world_size,
            store,
            name,
            lost_after=distributed.lost_after,
            stalled_after=distributed.stalled_after,
            answer=lambda: _answer(distributed, root, name),
            leave=lambda: team.leave(()),
        )
        team = cls(distributed, store, directory, all(answer == b"1" for answer in seen), heartbeat, stop)
        heartbeat.start()
        try:
            yield team
        finally:
            heartbeat.end()
            if distributed.is_main:
                path.unlink(missing_ok=True)
                with contextlib.suppress(RuntimeError):
                    root.set(_ENDED, "1")

    def work(self, ids: Sequence[int], batch_size: int) -> WorkSource:
        """The samples of this process; iterate over them once."""
        return SharedWork(ids, self.store, batch_size)

    def exchange(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """The records of all processes from earlier starts.

        If they do not share a run directory, records are sent through the store. Those of a process that hangs or is
        lost before it has sent them are missing, and are made again.

        Args:
            records: those in this process's directory.
        """
        if self.is_shared:
            return records
        self._publish("start", records)
        found = [*records]
        for rank in range(self.distributed.world_size):
            while not (has_sent := self.store.check([f"start/{rank}/pieces"])) and rank in self.heartbeat.awaited():
                if self.stop():
                    raise StopRequestedError(f"a signal arrived while process {rank} was to send its records")
                time.sleep(_POLL)
            found += self._fetch("start", rank) if has_sent else ()
        return merge_records(found)

    def leave(self, records: tuple[Record, ...]) -> None:
        """Reports that a process other than 0 does no more work.

        Args:
            records: those in this process's directory.
        """
        if not self.is_shared:
            self._publish("end", records)
        self.store.set(f"finished/{self.distributed.rank}", "1")

    def finish(self, records: tuple[Record, ...], tick: Callable[[], None]) -> tuple[Record, ...]:
        """Reports that this process has finished; process 0 waits until each other one has finished or is lost.

        Args:
            records: those in this process's directory.
            tick: called again and again while waiting.

        Returns:
            The records of the others, for process 0 if directories are not shared; else nothing.
        """
        others = range(1, self.distributed.world_size)
        if not self.distributed.is_main:
            self.leave(records)
            return ()
        while not self.stop() and self.heartbeat.awaited():
            tick()
            time.sleep(_POLL)
        if self.is_shared:
            return ()
        # A lost process published nothing; the caller makes its records again.
        present = [rank for rank in others if self.store.check([f"end/{rank}/pieces"])]
        return tuple(record for rank in present for record in self._fetch("end", rank))

    def _publish(self, moment: str, records: Sequence[Record]) -> None:
        lines = "\n".join(record.to_line() for record in records)
        content = b64encode(zlib.compress(lines.encode())).decode()
        key = f"{moment}/{self.distributed.rank}"
        pieces = [content[start : start + _PIECE] for start in range(0, len(content), _PIECE)]
        for number, piece in enumerate(pieces):
            self.store.set(f"{key}/{number}", piece)
        self.store.set(f"{key}/pieces", str(len(pieces)))  # last: who finds this key finds all pieces

    def _fetch(self, moment: str, rank: int) -> Iterator[Record]:
        key = f"{moment}/{rank}"
        count = int(_get(self.store, f"{key}/pieces", self.stop))
        content = b"".join(self.store.get(f"{key}/{number}") for number in range(count))
        return (Record.from_line(line) for line in zlib.decompress(b64decode(content)).splitlines())


def _wait_for_all(distributed: Distributed, store: Store, name: str, stop: Callable[[], bool]) -> str:
    """The name of the process 0 of this start of the job.

    torchrun keeps its store when it restarts processes, with all keys of lost ones. Therefore each process generates a
    new name and writes it as its hello. Process 0 answers every hello with its own name, which is the prefix of all
    keys of this start, so that keys of earlier starts are never read.

    A process 0 that has ended leaves a key. It may be of the start before, so a process that finds it waits a little
    for an answer.
    """
    pause = _Pause(stop)
    if not distributed.is_main:
        store.set(f"segrobust/hello/{distributed.rank}", name)
        found_end = None
        while not store.check([f"segrobust/answer/{name}"]):
            if not (store.check([_ENDED]) and store.get(_ENDED) == b"1"):
                found_end = None
            elif found_end is None:
                found_end = time.monotonic()
            elif time.monotonic() - found_end > distributed.lost_after / 4:
                raise JobEndedError("the job has ended: process 0 has made the report")
            pause(f"{distributed.world_size} processes")
        leader = store.get(f"segrobust/answer/{name}").decode()
        store.add(f"segrobust/{leader}/heard", 1)
        return leader
    store.set(_ENDED, "0")
    # The hello of a lost process is answered too, but does not count: only those that read an answer raise `heard`.
    while store.add(f"segrobust/{name}/heard", 0) < distributed.world_size - 1:
        _answer(distributed, store, name)
        pause(f"{distributed.world_size} processes")
    return name


class _Pause:
    """Waits a moment, again and again, until a signal arrives or patience ends."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop, self._started = stop, time.monotonic()

    def __call__(self, awaited: str) -> None:
        if self._stop():
            raise StopRequestedError("a signal arrived while processes waited for each other")
        if time.monotonic() - self._started > PATIENCE:
            raise TimeoutError(f"not all of {awaited} joined within {PATIENCE:.0f} s")
        time.sleep(_POLL)


def _get(store: Store, key: str, stop: Callable[[], bool]) -> bytes:
    """The value of a key as soon as there is one. `Store.get` waits too, but sees no signal."""
    pause = _Pause(stop)
    while not store.check([key]):
        pause(f"the processes with {key}")
    return store.get(key)


def _answer(distributed: Distributed, store: Store, name: str) -> None:
    """Answers every hello with the name of process 0."""
    for rank in range(1, distributed.world_size):
        if store.check([f"segrobust/hello/{rank}"]):
            store.set(f"segrobust/answer/{store.get(f'segrobust/hello/{rank}').decode()}", name)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise ValueError(f"the environment variable {name} must be a number, got {text!r}")
    return int(text)
