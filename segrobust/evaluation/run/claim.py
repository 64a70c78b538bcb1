"""The right of a process to write into a run directory, from before its first write to its end."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from filelock import BaseFileLock

from segrobust.evaluation.run.locks import LOCKS, RunInUseError, acquire, lock_path, require_lock
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.run.strict_json import read_document, shards, write_json
from segrobust.untrusted.regular_files import TEMPORARY, remove

SHARED: Final = ".shared-"
"""First letters of the files by which processes find out whether they see one directory."""

_GATE_SECONDS: Final = 60.0


class ManifestChangedError(ValueError):
    """Another command replaced the manifest of a run while this one worked; the message names the file."""


class Claim:
    """Holds a run directory for one process of one command.

    On entry, before anything else is written, the process takes the lock of its rank. Processes enter one after the
    other, and one is refused where a process is at work that has another purpose: other samples, attacks, radii or
    settings. The first one to enter removes temporary files of processes that were killed. On exit the lock is
    released.

    Args:
        directory: the run directory; it is made.
        manifest: of the command.
        rank: number of this process.

    Raises:
        RunInUseError: another process has this rank, or another command works there.
        DataFault: something in the directory is a link or no regular file.
        ValueError: the directory cannot be written.
    """

    def __init__(self, directory: Path, manifest: Manifest, rank: int = 0) -> None:
        self.directory = directory
        self.rank = rank
        self._manifest = manifest
        self._lock: BaseFileLock | None = None
        self._seen: tuple[int, ...] | None = None

    def __enter__(self) -> Self:
        RunDirectory(self.directory).require_writable()
        with self._gate():
            self._lock = require_lock(self.directory, self.rank)
            try:
                others = self._others()
                for other in others:
                    self._require_same_purpose(other)
                if not others:
                    _sweep(self.directory)
                purpose = {"purpose": self._manifest.purpose}
                write_json(self._purpose_path(self.rank), purpose, root=self.directory)
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._lock is not None
        self._lock.release()

    def write_manifest(self) -> None:
        """Writes the manifest, with the attacks of earlier commands.

        Raises:
            ValueError: the directory holds results of something else.
            OSError: it cannot be written.
        """
        RunDirectory(self.directory).claim(self._manifest)
        self._seen = self._signature()

    def require_unchanged(self) -> None:
        """Refuses to go on where another command replaced the manifest that this one wrote.

        Raises:
            ManifestChangedError: it has another purpose now, or is gone.
        """
        if self._seen is None or (now := self._signature()) == self._seen:
            return
        path = RunDirectory(self.directory).manifest
        if not now or Manifest.read(path).purpose != self._manifest.purpose:
            raise ManifestChangedError(
                f"{path} is {'another one' if now else 'gone'} since this command started: another command works in "
                "the directory, or files were moved. The records so far are kept; end the other command and run this "
                "one again"
            )
        self._seen = now

    def _signature(self) -> tuple[int, ...]:
        """What shows that a file was replaced; empty if there is none."""
        try:
            found = RunDirectory(self.directory).manifest.stat(follow_symlinks=False)
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    @contextlib.contextmanager
    def _gate(self) -> Iterator[None]:
        """One process at a time."""
        path = self.directory / LOCKS / "gate.lock"
        lock = acquire(path, _GATE_SECONDS)
        if lock is None:
            raise RunInUseError(
                f"another process has been entering {self.directory} for {_GATE_SECONDS:.0f} s: end it, or delete "
                f"{path.parent} if none is left"
            )
        try:
            yield
        finally:
            lock.release()

    def _others(self) -> list[int]:
        """Ranks of the other processes at work."""
        found = {path.stem[4:] for path in shards(self.directory / LOCKS, "rank*.*lock")}
        ranks = sorted(int(name) for name in found if name.isdecimal() and name.isascii())
        held = []
        for rank in ranks:
            if rank == self.rank:
                continue
            lock = acquire(lock_path(self.directory, rank))
            if lock is None:
                held.append(rank)
            else:
                lock.release()
        return held

    def _require_same_purpose(self, other: int) -> None:
        try:
            theirs = read_document(self._purpose_path(other), "the purpose of a process", root=self.directory)
        except FileNotFoundError:
            theirs = None
        if theirs != {"purpose": self._manifest.purpose}:
            raise RunInUseError(
                f"another command is at work in {self.directory} (rank {other}), with other images, attacks, radii or "
                "settings: wait for it or end it, or use another run directory"
            )

    def _purpose_path(self, rank: int) -> Path:
        return lock_path(self.directory, rank).with_suffix(".json")


def _sweep(directory: Path) -> None:
    """Removes what killed processes left: temporary files, and files by which processes find one another."""
    for path in (*directory.glob(f"{SHARED}*"), *RunDirectory(directory).own_files(f".*{TEMPORARY}")):
        remove(path, root=directory)
