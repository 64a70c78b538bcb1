"""Folders that somebody else filled, and what they hold, without following a link on the way.

A check of a path says nothing of the next use of the path: in between, a folder can become a link. Where the system can
name files relative to the descriptor of an open folder, each folder is opened from the one above it, and links are
refused by the same call that opens. Elsewhere each name is looked at before it is used.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from segrobust.untrusted.data_fault import DataFault

_CAREFUL: Final = sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")
)
_NO_LINKS: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final[int] = getattr(os, "O_DIRECTORY", 0)
_LINK_ERRORS: Final = (errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", errno.ELOOP))
"""What opening a link gives that must not be followed; EMLINK on FreeBSD."""

HAS_DESCRIPTORS: Final = (
    bool(_NO_LINKS and _FOLDER) and {os.open, os.mkdir, os.rename, os.stat, os.unlink} <= os.supports_dir_fd
)
"""Whether names can be relative to an open folder: on POSIX systems, not on Windows."""

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a regular file"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class OpenFolder:
    """An open folder, whose entries are named without their path.

    Args:
        path: for messages and, without a descriptor, for everything.
        descriptor: of the open folder; None where the system has none.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def open(self, name: str, flags: int, *, follow_links: bool = False) -> int:
        """A descriptor of an entry that is a regular file, opened without waiting.

        Raises:
            DataFault: a link that must not be followed, a folder, FIFO, socket or device.
            OSError: it is missing or cannot be opened.
        """
        with self._named(name):
            with contextlib.suppress(FileNotFoundError):
                require_regular(self._mode(name, follow_links=follow_links), self.path / name)
            flags |= _CAREFUL | (0 if follow_links else _NO_LINKS)
            descriptor = os.open(self._at(name), flags, 0o666, dir_fd=self._descriptor)
        try:
            require_regular(os.fstat(descriptor).st_mode, self.path / name)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def rename(self, old: str, new: str) -> None:
        """Gives an entry the name of another one, which is replaced."""
        with self._named(new):
            if self._descriptor is None:
                os.replace(self.path / old, self.path / new)
            else:
                os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Removes an entry, if there is one: a folder with all that it holds, and of a link the link alone.

        Raises:
            DataFault: a folder holds a thousand folders within one another.
            OSError: it cannot be removed.
        """
        with self._named(name), contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(self._mode(name)):
                os.unlink(self._at(name), dir_fd=self._descriptor)
                return
            try:
                shutil.rmtree(self._at(name), dir_fd=self._descriptor)
            except RecursionError as error:
                raise DataFault(
                    f"{self.path / name} holds folders nested too deeply to be removed here; remove it yourself"
                ) from error

    def inner(self, name: str, *, make: bool) -> "OpenFolder":
        """A folder in this one, which is closed by it.

        Raises:
            DataFault: a link, or no folder.
            OSError: it is missing, and not to be made, or it cannot be opened.
        """
        path = self.path / name
        with self._named(name):
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._at(name), dir_fd=self._descriptor)
            if self._descriptor is None:
                require_folder(self._mode(name), path)
                return OpenFolder(path, None)
            try:
                descriptor = os.open(name, os.O_RDONLY | _CAREFUL | _FOLDER | _NO_LINKS, dir_fd=self._descriptor)
            except OSError:
                require_folder(self._mode(name), path)
                raise
        return OpenFolder(path, descriptor)

    def close(self) -> None:
        """Closes the descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _mode(self, name: str, *, follow_links: bool = False) -> int:
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=follow_links).st_mode

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Gives errors the whole path, and calls what turns out to be a link one."""
        try:
            yield
        except OSError as error:
            if error.errno in _LINK_ERRORS and os.path.islink(self.path / name):
                raise _is_a_link(self.path / name) from error
            raise OSError(error.errno, error.strerror, str(self.path / name)) from error


def real_path(path: Path) -> Path:
    """A path without links; one that leads to itself stays as it is, and is missing where it is opened."""
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def opened_folder(path: Path, root: Path | None = None, *, make: bool = False) -> Iterator[OpenFolder]:
    """Opens a folder.

    Args:
        path: of the folder.
        root: a folder from which on no link is followed; it may be a link itself. None for `path`.
        make: whether folders that are missing are made.

    Raises:
        DataFault: a folder below `root` is a link, or no folder.
        OSError: a folder is missing, or cannot be opened or made.
    """
    start = path if root is None else root
    if make:
        start.mkdir(parents=True, exist_ok=True)
    folder = OpenFolder(start, os.open(start, os.O_RDONLY | _CAREFUL | _FOLDER) if HAS_DESCRIPTORS else None)
    try:
        for name in path.relative_to(start).parts:
            if name == os.pardir:
                raise DataFault(f"{path} leads out of {start}; only names below it are used", kind="link")
            outer, folder = folder, folder.inner(name, make=make)
            outer.close()
        yield folder
    finally:
        folder.close()


def require_regular(mode: int, path: Path) -> None:
    """Refuses what is no regular file.

    Args:
        mode: of the file, see `os.stat`.
        path: for the message.

    Raises:
        DataFault: a link, folder, FIFO, socket or device.
    """
    if stat.S_ISLNK(mode):
        raise _is_a_link(path)
    if not stat.S_ISREG(mode):
        raise DataFault(f"{path} is {_kind(mode)}; only regular files are read. Remove it from the data")


def require_folder(mode: int, path: Path) -> None:
    """Refuses what is no folder.

    Raises:
        DataFault: a link, file, FIFO, socket or device.
    """
    if stat.S_ISLNK(mode):
        raise _is_a_link(path)
    if not stat.S_ISDIR(mode):
        raise DataFault(f"{path} is {_kind(mode)}, and a folder is needed there; remove it")


def _is_a_link(path: Path) -> DataFault:
    return DataFault(f"{path} is a link, and links are not followed here; replace it by a copy", kind="link")


def _kind(mode: int) -> str:
    return next((kind for matches, kind in _KINDS if matches(mode)), "of an unknown kind")
