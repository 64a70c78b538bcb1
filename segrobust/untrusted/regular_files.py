"""Opening and reading files of others: regular files alone, and no more bytes than a file of the kind has.

A FIFO keeps a reader waiting for ever, and a device acts on being opened; a name says nothing about either.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from segrobust.untrusted.data_fault import DataFault

_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")
)
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading, without waiting; symbolic links are followed.

    The kind is asked of the open file again, since a name can come to mean another file.

    Raises:
        DataFault: a folder, FIFO, socket or device.
        OSError: the file is missing or cannot be opened.
    """
    _require_regular(os.stat(path).st_mode, path)
    descriptor = os.open(path, _FLAGS)
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_limited(path: Path, limit: int, what: str) -> bytes:
    """The content of a regular file.

    Args:
        path: of the file.
        limit: bytes that it may have.
        what: which kind of file it is, for messages: "a list of names".

    Raises:
        DataFault: not a regular file, one that cannot be opened, or one that is larger.
        FileNotFoundError: it is missing.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = b"" if size > limit else file.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataFault(f"{path} cannot be read: {error.strerror or error}", kind="unreadable") from error
    if max(size, len(content)) > limit:
        raise DataFault(f"{path} has {max(size, len(content))} bytes; {what} has at most {limit}", kind="too large")
    return content


def _require_regular(mode: int, path: Path) -> None:
    if stat.S_ISREG(mode):
        return
    kind = next((kind for matches, kind in _KINDS if matches(mode)), "no regular file")
    raise DataFault(f"{path} is {kind}; only regular files are read. Remove it from the data", kind="unreadable")
