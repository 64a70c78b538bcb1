"""Locks of a run directory, one for each process that writes there."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from segrobust.untrusted.folders import opened_folder, require_regular
from segrobust.untrusted.regular_files import require_one_name

LOCKS: Final = ".locks"
"""Folder of the locks in a run directory."""

_SOFT: Final = ".softlock"
_UNSUPPORTED: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class RunInUseError(ValueError):
    """Another process works in the run directory; the message says what to do."""


def lock_path(directory: Path, rank: int) -> Path:
    """The lock of a process."""
    return directory / LOCKS / f"rank{rank:03d}.lock"


def acquire(path: Path, seconds: float = 0.0) -> BaseFileLock | None:
    """Takes a lock that the operating system gives back when the process ends, however it ends.

    Where system or disk have no such locks, a file with the name of the machine and the number of the process stands
    for it, which a process on the same machine recognises as left behind.

    Args:
        path: of the lock.
        seconds: to wait for another process.

    Returns:
        The lock, to be released; None if another process has it.

    Raises:
        DataFault: the folder or the file is a link, or the file has further names: taking a lock may cut its file.
        OSError: the folder cannot be written.
    """
    with opened_folder(path.parent, path.parents[1], make=True):
        pass
    _require_own(path)
    try:
        return _taken(FileLock(path, timeout=seconds))
    except NotImplementedError:  # a system without locks: the file itself is the lock, below
        pass
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    return _taken(SoftFileLock(path.with_suffix(_SOFT), timeout=seconds))


def require_lock(directory: Path, rank: int) -> BaseFileLock:
    """Takes the lock of a process.

    Raises:
        RunInUseError: another process has it.
        OSError: the folder cannot be written.
    """
    lock = acquire(lock_path(directory, rank))
    if lock is None:
        raise RunInUseError(
            f"another process is writing to {directory} as rank {rank}: wait for it or end it, or use another run "
            f"directory; processes that share a run have different ranks. If none is left, delete {directory / LOCKS}"
        )
    return lock


def _require_own(path: Path) -> None:
    for name in (path, path.with_suffix(_SOFT)):
        with contextlib.suppress(FileNotFoundError):
            found = os.lstat(name)
            require_regular(found.st_mode, name)
            require_one_name(found, name)


def _taken(lock: BaseFileLock) -> BaseFileLock | None:
    for _ in range(2):  # the first attempt removes a file that a killed process left
        with contextlib.suppress(Timeout):
            lock.acquire()
            return lock
    return None
