"""Locks of a run directory, one for each process that writes there."""

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import Final

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from segrobust.untrusted.folders import opened_folder, require_regular
from segrobust.untrusted.regular_files import read_limited, require_one_name

LOCKS: Final = ".locks"
"""Folder of the locks in a run directory."""

_SOFT: Final = ".softlock"
_LARGEST_MARKER: Final = 4096
"""Bytes of a file that stands for a lock."""

_UNSUPPORTED: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class RunInUseError(ValueError):
    """Another process works in the run directory; the message says what to do."""


def lock_path(directory: Path, rank: int) -> Path:
    """The lock of a process."""
    return directory / LOCKS / f"rank{rank:03d}.lock"


def acquire(path: Path, seconds: float = 0.0) -> BaseFileLock | None:
    """Takes a lock that the operating system gives back when the process ends, however it ends.

    Where system or disk have no such locks, a file with the name of the machine and the number of the process stands
    for it, which a process on the same machine recognises as left behind: its process does not run.

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
    soft = path.with_suffix(_SOFT)
    _remove_left(soft)
    return _taken(SoftFileLock(soft, timeout=seconds))


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


def _remove_left(path: Path) -> None:
    """Removes the file of a process of this machine that does not run.

    filelock does so where the disk can exchange two names in one step; disks without locks, such as NFS, cannot.
    """
    found = _read_marker(path)
    if os.name != "posix" or len(found) < 2 or _runs(found[0]) or found[1] != _own_marker(path)[1]:
        return
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        if _read_marker(path) == found:
            path.rename(aside)
    if _read_marker(aside) not in ([], found):  # another process was faster, and has the lock
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _own_marker(path: Path) -> list[str]:
    """What a lock of this process holds: its number, the name of the machine, and perhaps more."""
    with SoftFileLock(path.with_name(f"{path.name}.{secrets.token_hex(8)}")) as lock:
        return _read_marker(Path(lock.lock_file))


def _read_marker(path: Path) -> list[str]:
    """The lines of such a file; none if it cannot be read."""
    try:
        return read_limited(path, _LARGEST_MARKER, "a lock", root=path.parent).decode("ascii").splitlines()
    except (OSError, ValueError):
        return []


def _runs(number: str) -> bool:
    """Whether a process of this machine has this number, also if it is not certain."""
    if not number.isdecimal() or not 0 < int(number) < 2**31:
        return True
    try:
        os.kill(int(number), 0)  # sends nothing
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
