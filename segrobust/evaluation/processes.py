"""Several processes at one evaluation: who they are, how they share the work, and how results come together."""

import os
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from segrobust.evaluation.records import Record, merge_records
from segrobust.evaluation.work import SharedWork, StridedWork, WorkSource

PATIENCE: Final = 1800.0
"""Seconds without a sign of life from any other process after which a process stops waiting for them."""

_POLL: Final = 0.2

_PIECE: Final = 4 * 2**20
"""Bytes in one entry of a store; torch's refuses 8 MiB."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those that work on one evaluation.

    With a store, work goes to whoever is free, and records come together where the processes share no file system.
    Without, each process has a fixed share, and they know of each other only by the files of the run directory.

    Args:
        rank: number of this process.
        world_size: number of processes.
        local_rank: its number on its machine: the GPU that it takes.
        store: of `torch.distributed`, reached by all processes; it may outlive them.

    Raises:
        ValueError: a rank outside 0..world_size - 1.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    store: Store | None = None

    def __post_init__(self) -> None:
        StridedWork((), self.rank, self.world_size)

    @classmethod
    def from_environment(cls) -> Self:
        """As `torchrun` or `srun` started this process; one process where neither did.

        Under `srun`, `MASTER_ADDR` and `MASTER_PORT` name a machine and a free port for the store; without them the
        shares are fixed.

        Raises:
            ValueError: variables that are no numbers.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        if "RANK" not in os.environ and "SLURM_STEP_NUM_TASKS" in os.environ:
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, world_size, local_rank = (_number(name, default) for name, default in zip(names, (0, 1, 0), strict=True))
        if world_size == 1:
            return cls(local_rank=local_rank)
        store = None
        if {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            store, _, _ = next(rendezvous("env://", rank, world_size))
        return cls(rank=rank, world_size=world_size, local_rank=local_rank, store=store)

    @property
    def leads(self) -> bool:
        """Whether this is the process that speaks for all."""
        return self.rank == 0


@dataclass(frozen=True)
class Team:
    """The processes of one start of a job, as one of them sees them.

    They wait for each other at the start and at the end. In between there is `count` alone, which costs two messages.

    Args:
        processes: this one among the others.
        store: of this start alone.
        directory: run directory of this process.
        is_shared: whether all processes see one run directory.
    """

    processes: Processes
    store: Store
    directory: Path
    is_shared: bool

    @classmethod
    def gather(cls, processes: Processes, directory: Path) -> Self:
        """Waits for all processes, and looks whether they see the same directory.

        Args:
            processes: this one among the others, with a store.
            directory: run directory of this process.
        """
        assert processes.store is not None
        store = _store_of_this_start(processes, processes.store)
        if processes.leads:
            token = f".shared-{uuid4().hex}"
            (directory / token).touch()
            store.set("token", token)
        path = directory / store.get("token").decode()
        store.set(f"sees/{processes.rank}", str(int(path.exists())))
        seen = [store.get(f"sees/{rank}") for rank in range(processes.world_size)]
        if processes.leads:
            path.unlink()
        return cls(processes, store, directory, all(answer == b"1" for answer in seen))

    def work(self, ids: Sequence[int], batch_size: int) -> WorkSource:
        """The samples of this process: to be iterated once."""
        return SharedWork(ids, self.store, batch_size)

    def exchange(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """What all processes together have done in earlier starts.

        Where they do not share a run directory, records travel through the store.

        Args:
            records: those in this process's directory.
        """
        if self.is_shared:
            return records
        self._publish("start", records)
        return merge_records(
            [*records, *(record for rank in range(self.processes.world_size) for record in self._fetch("start", rank))]
        )

    def count(self, record: Record) -> int:
        """Counts a record for all to see, and as a sign of life.

        Returns:
            How many of its attack and kind all processes together have made in this start.
        """
        self.store.add("beats", 1)
        return self.store.add(f"count/{record.digest}/{record.kind}", 1)

    def finish(self, records: Iterable[Record], stop: Callable[[], bool]) -> tuple[Record, ...]:
        """Waits until all have done their work, or give no sign of life for `PATIENCE`.

        Args:
            records: that this process made.
            stop: asked while waiting; True ends it.

        Returns:
            For process 0, where directories are not shared: the records of the others. Else nothing.
        """
        if not self.is_shared:
            self._publish("end", tuple(records))
        self.store.add("finished", 1)
        self._wait_for("finished", self.processes.world_size, PATIENCE, stop)
        if not self.processes.leads:
            self.store.add("left", 1)
            return ()
        self._wait_for("left", self.processes.world_size - 1, 10.0, stop)
        if self.is_shared:
            return ()
        present = [r for r in range(1, self.processes.world_size) if self.store.check([f"end/{r}/pieces"])]
        return tuple(record for rank in present for record in self._fetch("end", rank))

    def _wait_for(self, key: str, count: int, patience: float, stop: Callable[[], bool]) -> None:
        signs, since = -1, time.monotonic()
        while self.store.add(key, 0) < count and not stop():
            heard = self.store.add("beats", 0) + self.store.add(key, 0)
            if heard != signs:
                signs, since = heard, time.monotonic()
            if time.monotonic() - since > patience:
                return
            time.sleep(_POLL)

    def _publish(self, moment: str, records: Sequence[Record]) -> None:
        lines = "\n".join(record.to_line() for record in records)
        content = b64encode(zlib.compress(lines.encode())).decode()
        key = f"{moment}/{self.processes.rank}"
        pieces = [content[start : start + _PIECE] for start in range(0, len(content), _PIECE)]
        for number, piece in enumerate(pieces):
            self.store.set(f"{key}/{number}", piece)
        self.store.set(f"{key}/pieces", str(len(pieces)))

    def _fetch(self, moment: str, rank: int) -> Iterator[Record]:
        key = f"{moment}/{rank}"
        self.store.wait([f"{key}/pieces"], timedelta(seconds=PATIENCE))
        count = int(self.store.get(f"{key}/pieces"))
        content = b"".join(self.store.get(f"{key}/{number}") for number in range(count))
        return (Record.from_line(line) for line in zlib.decompress(b64decode(content)).splitlines())


def _store_of_this_start(processes: Processes, store: Store) -> Store:
    """The part of a store that belongs to this start of the job.

    torchrun keeps its store when it starts the processes anew, with all that lost ones have left there. Each process
    therefore says hello by a name that it makes up; process 0 answers every hello with its own name until it has been
    heard by all, and that name is the prefix of everything that follows.

    Raises:
        TimeoutError: not all processes came within `PATIENCE`.
    """
    name = uuid4().hex
    if not processes.leads:
        store.set(f"segrobust/hello/{processes.rank}", name)
        store.wait([f"segrobust/answer/{name}"], timedelta(seconds=PATIENCE))
        leader = store.get(f"segrobust/answer/{name}").decode()
        store.add(f"segrobust/{leader}/heard", 1)
        return PrefixStore(f"segrobust/{leader}", store)
    started = time.monotonic()
    while store.add(f"segrobust/{name}/heard", 0) < processes.world_size - 1:
        for rank in range(1, processes.world_size):
            if store.check([f"segrobust/hello/{rank}"]):
                store.set(f"segrobust/answer/{store.get(f'segrobust/hello/{rank}').decode()}", name)
        if time.monotonic() - started > PATIENCE:
            raise TimeoutError(f"of {processes.world_size} processes not all came within {PATIENCE:.0f} s")
        time.sleep(_POLL)
    return PrefixStore(f"segrobust/{name}", store)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise ValueError(f"the environment variable {name} must be a number, got {text!r}")
    return int(text)
