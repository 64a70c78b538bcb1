"""What the disturbances share: a small evaluation, processes that do it, and how it ended."""

import contextlib
import ctypes
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import torch
from torch import nn
from torch.distributed import DistError, FileStore  # type: ignore[attr-defined]  # public, but not in its __all__

from segrobust.attacks import PGD, Attack, LagrangianFMN
from segrobust.cli.console import without_traceback
from segrobust.data import SyntheticScenes
from segrobust.evaluation import Distributed, Plan, Record, evaluate, plan_attacks, read_records, summarize_run

NUM_IMAGES: Final = 12
BATCH_SIZE: Final = 2
SIZE: Final = (48, 64)
_PRIVATE: Final = 1 << 18  # MS_PRIVATE of mount(2)
_RECURSIVE: Final = 1 << 14
_NEW_MOUNTS: Final = 0x00020000  # CLONE_NEWNS of unshare(2)
_LIBRARY: Final = ctypes.CDLL(None, use_errno=True)

Before = Callable[[], object]


class Slow(nn.Module):
    """A small network with fixed weights, which may pause in a forward pass.

    Args:
        pause: seconds in each forward pass.
        hang_at: number of the pass that never ends; None for none.
    """

    def __init__(self, pause: float = 0.0, hang_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 9, 3, padding=1))
        self._timing = [pause, hang_at]  # no number, which would be a setting of the module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        pause, left = self._timing
        time.sleep(3600 if left == 0 else pause or 0)
        self._timing[1] = None if left is None else left - 1
        logits: torch.Tensor = self.inner(images)
        return logits


def small_plan(steps: int = 12) -> Plan:
    """A minimal-norm and a fixed-budget attack."""
    attacks: dict[str, Attack] = {
        "lagrangian_fmn": LagrangianFMN(num_passes=15),
        "pgd": PGD(num_steps=steps, random_start=True),
    }
    return plan_attacks(attacks, (2 / 255, 8 / 255))


def scenes() -> SyntheticScenes:
    """The data."""
    return SyntheticScenes(NUM_IMAGES, split="val", size=SIZE)


def comparable(records: Iterable[Record]) -> dict[str, str]:
    """Records as text by key, seconds left out."""
    return {str(record.key): json.dumps({**asdict(record), "seconds": 0.0}) for record in records}


def undisturbed() -> dict[str, str]:
    """The records of an evaluation in memory."""
    torch.set_num_threads(1)
    whole = evaluate(Slow().eval(), scenes(), plan=small_plan(), batch_size=BATCH_SIZE, checks="off", progress=False)
    return comparable(whole.records)


@dataclass(kw_only=True)
class Command:
    """One process of a command.

    Attributes:
        run_dir: the run directory.
        rank: number of the process.
        world_size: of all.
        store: file of a store; None for fixed shares.
        hang_at: number of the pass that never ends.
        pause: seconds in each forward pass.
        steps: of the fixed-budget attack.
        stalled_after: see `Distributed`.
        before: called in the process at its start.
        output: file of what it prints.
    """

    run_dir: Path
    rank: int = 0
    world_size: int = 1
    store: Path | None = None
    hang_at: int | None = None
    pause: float = 0.0
    steps: int = 12
    stalled_after: float | None = None
    before: Before | None = None
    output: Path = Path(os.devnull)

    def __call__(self) -> None:
        """Evaluates, with the output and the status of the command line."""
        descriptor = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        torch.set_num_threads(1)
        if self.before is not None:
            self.before()
        store = None if self.store is None else FileStore(str(self.store), self.world_size)
        with without_traceback(ValueError, OSError, DistError):
            report = evaluate(
                Slow(self.pause, self.hang_at).eval(),
                scenes(),
                plan=small_plan(self.steps),
                run_dir=self.run_dir,
                batch_size=BATCH_SIZE,
                distributed=Distributed(
                    rank=self.rank,
                    world_size=self.world_size,
                    store=store,
                    lost_after=20,
                    stalled_after=self.stalled_after,
                ),
                checks="off",
                panels=1,
                progress=True,
            )
        sys.exit(128 + report.interrupted if report.interrupted else int(report.missing > 0))


@dataclass
class Ground:
    """A place for one disturbed evaluation.

    Attributes:
        folder: for all files.
        run_dir: the run directory; a disturbance may move it to another disk.
        chance: draws moments.
        statuses: exit statuses of the disturbed processes.
    """

    folder: Path
    run_dir: Path
    chance: random.Random
    statuses: list[int | None] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    _running: list[BaseProcess] = field(default_factory=list)

    @property
    def output(self) -> Path:
        """What the disturbed processes print."""
        return self.folder / "output"

    def command(self, **settings: object) -> Command:
        """A process of a command on the run directory."""
        return Command(**{"run_dir": self.run_dir, "output": self.output, **settings})  # type: ignore[arg-type]

    def start(self, command: Callable[[], None]) -> BaseProcess:
        """Starts a process."""
        process = multiprocessing.get_context("fork").Process(target=command)
        process.start()
        self._running.append(process)
        return process

    def team(self, size: int = 2, **settings: object) -> list[BaseProcess]:
        """Starts processes with a store."""
        store = self.folder / f"store-{len(self._running)}"
        return [self.start(self.command(rank=rank, world_size=size, store=store, **settings)) for rank in range(size)]

    def wait_for_records(self, least: int | None = None) -> None:
        """Waits for a random number of records, while processes are at work."""
        wanted = self.chance.randrange(1, NUM_IMAGES * 4) if least is None else least
        self.wait(lambda: count_lines(self.run_dir) >= wanted or not any(each.is_alive() for each in self._running))

    def wait(self, condition: Callable[[], bool], seconds: float = 200.0) -> None:
        """Waits for something.

        Raises:
            TimeoutError: it has not happened.
        """
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > seconds:
                raise TimeoutError(f"nothing happened for {seconds:.0f} s")
            time.sleep(0.005)

    def join(self, seconds: float = 200.0) -> None:
        """Waits for all processes; one that does not end is killed, and has the status None."""
        for process in self._running:
            process.join(seconds)
            self.statuses.append(process.exitcode)
            process.kill()
            process.join()
        self._running.clear()

    def remember(self) -> None:
        """Takes down the records on the disk, none of which may be lost."""
        with contextlib.suppress(FileNotFoundError):
            self.kept |= comparable(read_records(self.run_dir))

    def finish(self, expected: dict[str, str]) -> tuple[bool, bool]:
        """Runs the same command once more; whether all is as undisturbed, and whether nothing was lost."""
        self.start(self.command())
        self.join()
        found = comparable(read_records(self.run_dir))
        complete = summarize_run(self.run_dir).missing == 0 and (self.run_dir / "report.html").is_file()
        return found == expected and complete and self.statuses[-1] == 0, self.kept.items() <= found.items()

    def said(self) -> str:
        """The last line that is an error, or the last one."""
        lines = [line for line in self.output.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "error: " in line or "hangs" in line or "has ended" in line]
        return (errors or lines or [""])[-1]


def count_lines(run_dir: Path) -> int:
    """Lines of all files of records."""
    with contextlib.suppress(OSError):
        return sum(path.read_bytes().count(b"\n") for path in run_dir.glob("records/*.jsonl"))
    return 0


def own_mounts() -> None:
    """What this process mounts is seen by it and its children alone.

    Raises:
        OSError: not allowed.
    """
    if _LIBRARY.unshare(_NEW_MOUNTS) or _LIBRARY.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None):
        raise OSError(ctypes.get_errno(), "no mount namespace of its own")


def mount_memory(place: Path, flags: int, options: str) -> None:
    """Mounts a disk in memory, or mounts it again with other flags.

    Raises:
        OSError: not allowed.
    """
    if _LIBRARY.mount(b"chaos", os.fsencode(place), b"tmpfs", flags, options.encode()):
        raise OSError(ctypes.get_errno(), f"{place} cannot be mounted")


def unmount(place: Path) -> None:
    """Takes a disk away while files are open.

    Raises:
        OSError: not allowed.
    """
    if _LIBRARY.umount2(os.fsencode(place), 2):
        raise OSError(ctypes.get_errno(), f"{place} cannot be unmounted")


def new_numbers() -> None:
    """Children of this process have numbers from 1 on, as in a container.

    Raises:
        OSError: not allowed.
    """
    if _LIBRARY.unshare(0x20000000):  # CLONE_NEWPID
        raise OSError(ctypes.get_errno(), "no numbers of its own")


def die_with_parent() -> None:
    """This process is killed when the one that started it ends."""
    _LIBRARY.prctl(1, 9)
