"""Kinds of disturbance: functions of a `Ground` that start processes, disturb them, and wait for their end."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import torch

from benchmarks.chaos.ground import (
    Ground,
    die_with_parent,
    mount_memory,
    new_numbers,
    unmount,
)
from segrobust.tasks.checkpoint_files import AtomicCheckpointIO, newest_complete

_DISK: Final = "size=8m"


def hang_alone(ground: Ground) -> None:
    """The network of a single process sleeps for ever."""
    ground.start(ground.command(hang_at=ground.chance.randrange(20, 300), stalled_after=4.0))
    ground.join()
    ground.remember()


def hang_in_team(ground: Ground) -> None:
    """The network of one of two processes sleeps for ever; the other one does its work."""
    store, hangs = ground.folder / "store", ground.chance.randrange(20, 120)
    for rank in range(2):
        settings = {"rank": rank, "world_size": 2, "store": store, "stalled_after": 4.0}
        ground.start(ground.command(**settings, hang_at=hangs if rank else None, pause=0.0 if rank else 0.02))
    ground.join()
    ground.remember()


def stop_and_continue(ground: Ground) -> None:
    """Processes are stopped for longer than the time after which one hangs, and continue."""
    team = ground.team(stalled_after=3.0, pause=0.005)
    for _ in range(2):
        ground.wait_for_records()
        stopped = ground.chance.sample(team, ground.chance.randint(1, 2))
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid or 0, number)
            time.sleep(ground.chance.uniform(3.5, 5) if number == signal.SIGSTOP else 0)
    ground.join()
    ground.remember()


def second_command(ground: Ground) -> None:
    """The same command is started again while the first one works."""
    ground.start(ground.command(pause=0.01))
    ground.wait_for_records(1)
    ground.start(ground.command())
    ground.join()
    ground.remember()


def other_command(ground: Ground) -> None:
    """Another command, with another rank, is started while the first one works."""
    ground.start(ground.command(pause=0.01))
    ground.wait_for_records(1)
    ground.start(ground.command(rank=1, world_size=2, steps=5))
    ground.join()
    ground.remember()


def deleted_directory(ground: Ground) -> None:
    """The run directory is deleted in the middle; the user appends the rescued lines, as the message says."""
    ground.start(ground.command(before=_rescue_in(ground.folder), pause=0.002))
    ground.wait_for_records()
    ground.remember()
    shutil.rmtree(ground.run_dir, ignore_errors=True)
    ground.join()
    _restore(ground)


def moved_directory(ground: Ground) -> None:
    """The run directory is moved away and an empty one made; the user moves it back."""
    ground.start(ground.command(before=_rescue_in(ground.folder), pause=0.002))
    ground.wait_for_records()
    ground.remember()
    ground.run_dir.rename(ground.folder / "moved")
    (ground.run_dir / "records").mkdir(parents=True)
    ground.join()
    shutil.rmtree(ground.run_dir)
    (ground.folder / "moved").rename(ground.run_dir)
    _restore(ground)


def read_only_disk(ground: Ground) -> None:
    """The system finds an error of the disk and mounts it again for reading alone; later it is repaired."""
    image, disk = ground.folder / "image", ground.folder / "disk"
    disk.mkdir()
    image.write_bytes(bytes(2**24))
    mount = ["mount", "-o", "loop,errors=remount-ro", str(image), str(disk)]
    _call("mkfs.ext4", "-q", str(image))
    _call(*mount)
    ground.run_dir = disk / "run"
    device = os.stat(disk).st_dev
    ground.start(ground.command(before=_rescue_in(ground.folder), pause=0.002))
    ground.wait_for_records()
    ground.remember()
    Path(f"/sys/fs/ext4/loop{os.minor(device)}/trigger_fs_error").write_text("an error")
    ground.join()
    _call("umount", str(disk))
    subprocess.run(["e2fsck", "-fyp", str(image)], check=False, capture_output=True)  # its status says what it repaired
    _call(*mount)
    _restore(ground)
    shutil.copytree(ground.run_dir, ground.folder / "copy")
    _call("umount", str(disk))
    ground.run_dir = ground.folder / "copy"


def unmounted_disk(ground: Ground) -> None:
    """The disk is unmounted in the middle, and empty when it returns."""
    disk = _own_disk(ground)
    ground.start(ground.command(before=_rescue_in(ground.folder), pause=0.002))
    ground.wait_for_records()
    ground.remember()
    unmount(disk)
    ground.join()
    _restore(ground)


def full_disk(ground: Ground) -> None:
    """The disk becomes full in the middle of a line; later there is room again."""
    disk = _own_disk(ground)
    ground.start(ground.command(before=_rescue_in(ground.folder), pause=0.002))
    ground.wait_for_records()
    ground.remember()
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (4096, 100):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    ground.join()
    ballast.unlink()
    _restore(ground)


def broken_disk(ground: Ground) -> None:
    """Reads and writes are input/output errors (EIO) for some time."""
    broken = ground.folder / "broken"
    with _odd_disk(ground, "--broken", str(broken)):
        ground.start(ground.command(before=_rescue_in(ground.folder), pause=0.002))
        ground.wait_for_records()
        ground.remember()
        broken.touch()
        ground.join()
        broken.unlink()
        _restore(ground)
        shutil.copytree(ground.run_dir, ground.folder / "copy")
    ground.run_dir = ground.folder / "copy"


def disk_without_locks(ground: Ground) -> None:
    """On a disk that refuses locks (ENOLCK): a second command, and a kill that leaves a lock."""
    with _odd_disk(ground, "--no-locks"):
        first = ground.start(ground.command(pause=0.01))
        ground.wait_for_records(1)
        second = ground.start(ground.command())
        second.join(100)
        ground.wait_for_records()
        first.kill()
        ground.join()
        ground.remember()
        ground.start(ground.command())
        ground.join()
        shutil.copytree(ground.run_dir, ground.folder / "copy")
    ground.run_dir = ground.folder / "copy"


def disk_without_case(ground: Ground) -> None:
    """On a disk for which A and a are one name: two processes, one of them killed."""
    with _odd_disk(ground, "--ignore-case"):
        team = ground.team(pause=0.005)
        ground.wait_for_records()
        team[1].kill()
        ground.join()
        ground.remember()
        shutil.copytree(ground.run_dir, ground.folder / "copy")
    ground.run_dir = ground.folder / "copy"


def equal_numbers(ground: Ground) -> None:
    """Two processes in two containers have the same number; one is killed, and a third has the number again."""
    team = [ground.start(_numbered_from_1(ground, rank)) for rank in range(2)]
    ground.wait_for_records()
    team[1].kill()
    team[1].join()
    ground.start(_numbered_from_1(ground, 1))
    ground.join()
    ground.remember()


def jumping_clock(ground: Ground) -> None:
    """The time of day jumps by up to a day, forwards and backwards, in each of two processes."""
    ground.team(before=_jump_clock(ground.chance.random()), stalled_after=5.0, pause=0.002)
    ground.join()
    ground.remember()


def ended_team(ground: Ground) -> None:
    """SIGTERM reaches all processes of a team, in any order, as from a scheduler."""
    team = ground.team(3, pause=0.005)
    ground.wait_for_records()
    for process in ground.chance.sample(team, 3):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid or 0, signal.SIGTERM)
        time.sleep(ground.chance.uniform(0, 0.3))
    ground.join()
    ground.remember()


def short_grace(ground: Ground) -> None:
    """SIGTERM, and SIGKILL a moment later: a preemption that does not wait."""
    team = ground.team(pause=0.005)
    ground.wait_for_records()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in team:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, number)
        time.sleep(ground.chance.uniform(0, 0.2))
    ground.join()
    ground.remember()


def returns_late(ground: Ground) -> None:
    """A process starts again when process 0 has ended the job."""
    store = ground.folder / "store"
    for rank in range(2):
        ground.start(ground.command(rank=rank, world_size=2, store=store))
    ground.join()
    ground.remember()
    ground.start(ground.command(rank=1, world_size=2, store=store))
    ground.join()


def killed_at_start(ground: Ground) -> None:
    """Commands are killed in their first moments, while they take locks and write the first files."""
    for _ in range(4):
        process = ground.start(ground.command())
        ground.wait(lambda: ground.run_dir.exists())
        time.sleep(ground.chance.uniform(0, 0.4))
        process.kill()
        ground.join()
        ground.remember()


def killed_checkpoint(ground: Ground) -> None:
    """A process that writes checkpoints to another disk than the temporary folder's is killed in the middle of one."""
    disk = ground.folder / "disk"
    disk.mkdir()
    mount_memory(disk, 0, "size=64m")
    path = disk / "last.ckpt"
    process = ground.start(lambda: _write_checkpoints(path))
    ground.wait(path.exists)
    time.sleep(ground.chance.uniform(0, 0.5))
    process.kill()
    ground.join()
    found = newest_complete([path])
    content = torch.load(path, weights_only=True)
    if found.step != content["global_step"] or not torch.equal(content["state_dict"], _weights(found.step)):
        raise AssertionError(f"{path} is another checkpoint")


KINDS: Final[Mapping[str, Callable[[Ground], None]]] = {
    kind.__name__: kind
    for kind in (
        *(hang_alone, hang_in_team, stop_and_continue, second_command, other_command, deleted_directory),
        *(moved_directory, read_only_disk, unmounted_disk, full_disk, broken_disk, disk_without_locks),
        *(disk_without_case, equal_numbers, jumping_clock, ended_team, short_grace, returns_late),
        *(killed_at_start, killed_checkpoint),
    )
}


def _own_disk(ground: Ground) -> Path:
    """A disk in memory, with the run directory."""
    disk = ground.folder / "disk"
    disk.mkdir()
    mount_memory(disk, 0, _DISK)
    ground.run_dir = disk / "run"
    return disk


@contextlib.contextmanager
def _odd_disk(ground: Ground, *options: str) -> Iterator[None]:
    from odd_disk import odd_disk  # of tests/

    with odd_disk(ground.folder / "disk", *options) as disk:
        ground.run_dir = disk / "run"
        yield


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _rescue_in(folder: Path) -> Callable[[], None]:
    """Rescued records go to this folder."""

    def change() -> None:
        tempfile.tempdir = str(folder)

    return change


def _restore(ground: Ground) -> None:
    """Appends rescued lines to the file of records, as the message says; some may be there already."""
    shard = ground.run_dir / "records" / "rank000.jsonl"
    for rescued in ground.folder.glob("segrobust-*.jsonl"):
        shard.parent.mkdir(parents=True, exist_ok=True)
        with shard.open("ab") as file:
            file.write(rescued.read_bytes())


def _numbered_from_1(ground: Ground, rank: int) -> Callable[[], None]:
    def run() -> None:
        new_numbers()
        process = os.fork()
        if not process:
            die_with_parent()
            if os.getpid() != 1:
                raise AssertionError("another number")
            try:
                ground.command(rank=rank, world_size=2, pause=0.005)()
            except SystemExit as end:
                os._exit(end.code if isinstance(end.code, int) else 1)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        sys.exit(os.waitstatus_to_exitcode(status))

    return run


def _jump_clock(seed: float) -> Callable[[], None]:
    def change() -> None:
        chance, real = random.Random(seed), time.time
        offset = [0.0]

        def jump() -> None:
            while True:
                time.sleep(0.05)
                offset[0] = chance.uniform(-86400, 86400)

        threading.Thread(target=jump, daemon=True).start()
        time.time = lambda: real() + offset[0]

    return change


def _weights(step: int) -> torch.Tensor:
    return torch.full((400_000,), float(step))


def _write_checkpoints(path: Path) -> None:
    step = 0
    while True:
        step += 1
        content = {"global_step": step, "epoch": 0, "loops": {}, "optimizer_states": [], "state_dict": _weights(step)}
        AtomicCheckpointIO().save_checkpoint(content, path)
