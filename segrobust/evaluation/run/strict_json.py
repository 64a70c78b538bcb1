"""Strict JSON, with infinities and nan as strings, in the files of a run: replaced in one step, or line by line.

No file is reached by a link, and what is read has limits: a run directory may come from somebody else.
"""

import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.documents import parse_json, read_json
from segrobust.untrusted.regular_files import open_regular, open_to_append

LARGEST_FILE: Final = 2**24
"""Bytes of a document, such as a manifest with 1 million samples."""

LARGEST_LINE: Final = 2**22
"""Bytes of a line, such as a record of 65,534 classes."""

_BLOCK: Final = 2**16

TEMPORARY: Final = ".tmp"
"""Ending of temporary files, whose names begin with a full stop."""


def portable(value: object) -> object:
    """The value with inf, -inf and nan, which JSON lacks, as strings; `float` reads them back.

    Args:
        value: nested mappings, lists, tuples, strings, numbers and None.
    """
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return value


def to_line(value: object) -> str:
    """One line of strict JSON, without the newline."""
    return json.dumps(portable(value), allow_nan=False, separators=(",", ":"))


def write_json(path: Path, value: object, *, flush: bool = True) -> None:
    """Writes indented strict JSON to a temporary file that then replaces `path`: readers see the old or the new one.

    Args:
        path: the file.
        value: nested mappings, lists, tuples, strings, numbers and None.
        flush: see `replace_file`.

    Raises:
        OSError: the folder cannot be written.
    """
    replace_file(path, (json.dumps(portable(value), allow_nan=False, indent=1) + "\n").encode(), flush=flush)


def replace_file(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Writes `content` to a temporary file that then replaces `path`.

    The temporary name is random: processes of two containers on one disk may have the same number.

    Args:
        path: the file.
        content: its new content.
        flush: whether the content is on the disk before the file has its name. Otherwise a loss of power, or a disk
            that fails, may leave an empty file.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            if flush:
                file.flush()
                flush_to_disk(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def read_document(path: Path, what: str) -> object:
    """The value of a file that `write_json` wrote.

    Raises:
        DataFault: no strict JSON, too large, or no regular file.
        FileNotFoundError: it is missing.
    """
    return read_json(path, what, largest=LARGEST_FILE, follow_links=False)


def read_lines(path: Path, what: str) -> Iterator[tuple[str, object]]:
    """The values of a file of lines, each with its place for messages: file and number of the line.

    A last line without newline is left out: it is incomplete, or still being written.

    Raises:
        DataFault: a line that is no strict JSON or too long, or no regular file.
        OSError: the file cannot be opened.
    """
    with open_regular(path, follow_links=False) as file:
        number = 0
        while line := file.readline(LARGEST_LINE + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(line) > LARGEST_LINE:
                raise DataFault(f"{where}: {what} has at most {LARGEST_LINE} bytes", kind="too large")
            if line.endswith(b"\n"):
                yield where, parse_line(line, where)


def parse_line(line: bytes, where: str) -> object:
    """The value of one line.

    Raises:
        DataFault: no strict JSON in UTF-8.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise DataFault(f"{where}: byte {error.start} is not text in UTF-8") from error
    return parse_json(text, where)


def append_line(path: Path, value: object) -> None:
    """Appends one line; an incomplete last line, which a killed process left, is removed before.

    Raises:
        OSError: the file cannot be written.
        DataFault: it is a link, or has further names.
    """
    with open_to_append(path) as file:
        cut_incomplete(file)
        file.write(to_line(value).encode() + b"\n")


def cut_incomplete(file: BinaryIO) -> int:
    """Cuts a file after its last newline.

    Args:
        file: open for reading and writing.

    Returns:
        Its size.
    """
    end = file.seek(0, 2)
    size = end
    while size > 0:
        start = max(0, size - _BLOCK)
        file.seek(start)
        place = file.read(size - start).rfind(b"\n")
        if place >= 0:
            size = start + place + 1
            break
        size = start
    if size < end:
        file.truncate(size)
    return size
