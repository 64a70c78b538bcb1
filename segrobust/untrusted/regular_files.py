"""Opening and reading files of others: regular files alone, and no more bytes than a file of the kind has.

A FIFO keeps a reader waiting for ever, and a device acts on being opened; a name says nothing about either.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

from segrobust.untrusted.data_fault import DataFault

_CAREFUL: Final = sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")
)
_NO_LINKS: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path, *, follow_links: bool = True) -> BinaryIO:
    """Opens a regular file for reading, without waiting.

    The kind is asked of the open file again, since a name can come to mean another file.

    Args:
        path: of the file.
        follow_links: whether a symbolic link is followed; else it is refused.

    Raises:
        DataFault: a folder, FIFO, socket or device, or a link that must not be followed.
        OSError: the file is missing or cannot be opened.
    """
    _require_regular(os.stat(path, follow_symlinks=follow_links).st_mode, path)
    descriptor = os.open(path, os.O_RDONLY | _CAREFUL | (0 if follow_links else _NO_LINKS))
    return os.fdopen(_checked(descriptor, path), "rb")


def open_to_append(path: Path) -> BinaryIO:
    """Opens a file for reading and appending, without a buffer, and makes it if it is missing.

    Only a regular file that has this one name: what is written to a link is written elsewhere.

    Raises:
        DataFault: a link, a file with further names (hard links), a folder, FIFO, socket or device.
        OSError: the file cannot be opened.
    """
    if os.path.lexists(path):
        _require_regular(os.lstat(path).st_mode, path)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _CAREFUL | _NO_LINKS, 0o666)
    names = os.fstat(_checked(descriptor, path)).st_nlink
    if names > 1:
        os.close(descriptor)
        raise DataFault(
            f"{path} is one of {names} names of a file (hard links), and writing here would change the others too; "
            "replace it by a copy",
            kind="link",
        )
    return os.fdopen(descriptor, "a+b", buffering=0)


def require_plain(root: Path, names: Iterable[str]) -> None:
    """Refuses links and special files among some entries of a folder and all that is below them.

    Args:
        root: the folder; it may be a link itself.
        names: of the entries; those that are missing are passed over.

    Raises:
        DataFault: a symbolic link, FIFO, socket or device; the message names it.
    """
    waiting = [root / name for name in names if os.path.lexists(root / name)]
    while waiting:
        path = waiting.pop()
        mode = os.lstat(path).st_mode
        if not stat.S_ISDIR(mode):
            _require_regular(mode, path)
            continue
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_file(follow_symlinks=False):
                    waiting.append(path / entry.name)


def read_limited(path: Path, limit: int, what: str, *, follow_links: bool = True) -> bytes:
    """The content of a regular file.

    Args:
        path: of the file.
        limit: bytes that it may have.
        what: which kind of file it is, for messages: "a list of names".
        follow_links: see `open_regular`.

    Raises:
        DataFault: not a regular file, one that cannot be opened, or one that is larger.
        FileNotFoundError: it is missing.
    """
    try:
        with open_regular(path, follow_links=follow_links) as file:
            size = os.fstat(file.fileno()).st_size
            content = b"" if size > limit else file.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataFault(f"{path} cannot be read: {error.strerror or error}", kind="unreadable") from error
    if max(size, len(content)) > limit:
        raise DataFault(f"{path} has {max(size, len(content))} bytes; {what} has at most {limit}", kind="too large")
    return content


def _checked(descriptor: int, path: Path) -> int:
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(mode: int, path: Path) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISLNK(mode):
        raise DataFault(f"{path} is a link, and links are not followed here; replace it by a copy", kind="link")
    kind = next((kind for matches, kind in _KINDS if matches(mode)), "no regular file")
    raise DataFault(f"{path} is {kind}; only regular files are read. Remove it from the data", kind="unreadable")
