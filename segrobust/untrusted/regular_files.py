"""Opening, reading and writing files of others: regular files alone, and no more bytes than a file of the kind has.

A FIFO keeps a reader waiting for ever, and a device acts on being opened; a name says nothing about either. Of a tree
that is wholly somebody else's, such as a run directory, the root is given: below it no link is followed.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.folders import OpenFolder, opened_folder, require_folder, require_regular

_DEEPEST: Final = 8
"""Folders within one another; a path of a thousand is longer than the system takes."""

TEMPORARY: Final = ".tmp"
"""Ending of temporary files, whose names begin with a full stop."""


def open_regular(path: Path, *, root: Path | None = None) -> BinaryIO:
    """Opens a regular file for reading, without waiting.

    The kind is asked of the open file again, since a name can come to mean another file.

    Args:
        path: of the file.
        root: a folder from which on no link is followed; None to follow links.

    Raises:
        DataFault: a folder, FIFO, socket or device, or a link that must not be followed.
        OSError: the file is missing or cannot be opened.
    """
    if root is None:  # by its path: a folder may allow its files to be opened and not its list to be read
        return os.fdopen(OpenFolder(path.parent, None).open(path.name, os.O_RDONLY, follow_links=True), "rb")
    with opened_folder(path.parent, root) as folder:
        return os.fdopen(folder.open(path.name, os.O_RDONLY), "rb")


def open_to_append(path: Path, *, root: Path) -> BinaryIO:
    """Opens a file for reading and appending, without a buffer, and makes it and its folder if they are missing.

    Only a regular file that has this one name: what is written to a link is written elsewhere.

    Args:
        path: of the file.
        root: a folder from which on no link is followed.

    Raises:
        DataFault: a link, a file with further names (hard links), a folder, FIFO, socket or device.
        OSError: the file cannot be opened.
    """
    with opened_folder(path.parent, root, make=True) as folder:
        descriptor = folder.open(path.name, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        require_one_name(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "a+b", buffering=0)


def replace_file(path: Path, content: bytes, *, root: Path | None = None, flush: bool = True) -> None:
    """Writes `content` to a temporary file that then replaces `path`: readers see the old or the new one.

    The temporary name is random: processes of two containers on one disk may have the same number.

    Args:
        path: of the file; folders between `root` and it are made.
        content: of the file.
        root: a folder from which on no link is followed; None for the folder of the file, which must exist.
        flush: whether the content is on the disk before the file has its name. Otherwise a loss of power, or a disk
            that fails, may leave an empty file.

    Raises:
        DataFault: a folder below `root` is a link, or no folder.
        OSError: the folder cannot be written.
    """
    temporary = f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}"
    with opened_folder(path.parent, root, make=root is not None) as folder:
        try:
            with os.fdopen(folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(content)
                if flush:
                    file.flush()
                    flush_to_disk(file)
            folder.rename(temporary, path.name)
        finally:
            folder.remove(temporary)


def flush_to_disk(file: BinaryIO) -> None:
    """Waits until what was written is on the disk, where the disk knows this.

    Raises:
        OSError: what was written before cannot be stored.
    """
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def remove(path: Path, *, root: Path) -> None:
    """Removes a file, or a folder with all that it holds; of a link, the link alone.

    Args:
        path: of what is removed; it may be missing.
        root: a folder from which on no link is followed.

    Raises:
        DataFault: a folder between `root` and `path` is a link.
        OSError: it cannot be removed.
    """
    try:
        with opened_folder(path.parent, root) as folder:
            folder.remove(path.name)
    except FileNotFoundError:
        return


def require_plain(root: Path, folders: Iterable[str], files: Iterable[str]) -> None:
    """Refuses links and special files among some entries of a folder and all that is below them.

    Args:
        root: the folder; it may be a link itself.
        folders: names of entries that are folders; those that are missing are passed over.
        files: names of entries that are regular files; those that are missing are passed over.

    Raises:
        DataFault: a symbolic link, FIFO, socket or device, a file in the place of a folder, or folders that are nested
            more than 8 deep; the message names it.
    """
    for name in files:
        if os.path.lexists(root / name):
            require_regular(os.lstat(root / name).st_mode, root / name)
    waiting = [(root / name, 0) for name in folders if os.path.lexists(root / name)]
    for folder, _ in waiting:
        require_folder(os.lstat(folder).st_mode, folder)
    while waiting:
        path, depth = waiting.pop()
        mode = os.lstat(path).st_mode
        if not stat.S_ISDIR(mode):
            require_regular(mode, path)
            continue
        if depth > _DEEPEST:
            raise DataFault(f"{path} is nested more than {_DEEPEST} folders deep; remove it", kind="too large")
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_file(follow_symlinks=False):
                    waiting.append((path / entry.name, depth + 1))


def require_one_name(found: os.stat_result, path: Path) -> None:
    """Refuses a file with further names.

    Args:
        found: what the system says of the file.
        path: for the message.

    Raises:
        DataFault: the file has hard links.
    """
    if found.st_nlink > 1:
        raise DataFault(
            f"{path} is one of {found.st_nlink} names of a file (hard links), and writing here would change the others "
            "too; replace it by a copy",
            kind="link",
        )


def read_limited(path: Path, limit: int, what: str, *, root: Path | None = None) -> bytes:
    """The content of a regular file.

    Args:
        path: of the file.
        limit: bytes that it may have.
        what: which kind of file it is, for messages: "a list of names".
        root: see `open_regular`.

    Raises:
        DataFault: not a regular file, one that cannot be opened, or one that is larger.
        FileNotFoundError: it is missing.
    """
    try:
        with open_regular(path, root=root) as file:
            size = os.fstat(file.fileno()).st_size
            content = b"" if size > limit else file.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataFault(f"{path} cannot be read: {error.strerror or error}", kind="unreadable") from error
    if max(size, len(content)) > limit:
        raise DataFault(f"{path} has {max(size, len(content))} bytes; {what} has at most {limit}", kind="too large")
    return content
