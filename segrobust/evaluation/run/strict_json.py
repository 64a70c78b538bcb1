"""Strict JSON, with infinities and nan as strings, in the files of a run: replaced in one step, or line by line.

No file is reached by a link, and what is read has limits: a run directory may come from somebody else.
"""

import json
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.documents import parse_json, read_json
from segrobust.untrusted.regular_files import open_regular, open_to_append, replace_file

LARGEST_FILE: Final = 2**24
"""Bytes of a document, such as a manifest with 262,144 samples."""

LARGEST_LINE: Final = 2**22
"""Bytes of a line, such as a record of 65,534 classes."""

MOST_SHARDS: Final = 2**12
"""Files of one kind in a run directory, one per process."""

_BLOCK: Final = 2**16


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


def write_json(path: Path, value: object, *, root: Path | None = None, flush: bool = True) -> None:
    """Writes indented strict JSON to a file in one step; see `replace_file`.

    Args:
        path: the file.
        value: nested mappings, lists, tuples, strings, numbers and None.
        root: see `replace_file`.
        flush: see `replace_file`.

    Raises:
        DataFault: a folder below `root` is a link.
        OSError: the folder cannot be written.
    """
    content = json.dumps(portable(value), allow_nan=False, indent=1) + "\n"
    replace_file(path, content.encode(), root=root, flush=flush)


def read_document(path: Path, what: str, *, root: Path | None = None) -> object:
    """The value of a file that `write_json` wrote.

    Args:
        path: of the file.
        what: which kind of file it is, for messages.
        root: a folder from which on no link is followed; None for the folder of the file.

    Raises:
        DataFault: no strict JSON, too large, or no regular file.
        FileNotFoundError: it is missing.
    """
    return read_json(path, what, largest=LARGEST_FILE, root=path.parent if root is None else root)


def shards(folder: Path, pattern: str = "rank*.jsonl") -> list[Path]:
    """The files of the processes of a run, in alphabetical order; none if there is no such folder.

    Args:
        folder: of a run directory.
        pattern: of their names.

    Raises:
        DataFault: there are more than a run has processes, or the folder is a file.
        OSError: the folder cannot be read.
    """
    try:  # `Path.glob` passes over a folder that may not be read
        with os.scandir(folder) as entries:
            names = (entry.name for entry in entries if fnmatchcase(entry.name, pattern))
            found = [folder / name for name in islice(names, MOST_SHARDS + 1)]
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise DataFault(f"{folder} is a regular file in the place of a folder") from error
    if len(found) > MOST_SHARDS:
        raise DataFault(f"{folder} has at most {MOST_SHARDS} files {pattern}, one per process", kind="too large")
    return sorted(found)


def read_lines(path: Path, what: str, *, root: Path) -> Iterator[tuple[str, object]]:
    """The values of a file of lines, each with its place for messages: file and number of the line.

    A last line without newline is left out: it is incomplete, or still being written.

    Args:
        path: of the file.
        what: which kind of line it is, for messages.
        root: a folder from which on no link is followed.

    Raises:
        DataFault: a line that is no strict JSON or too long, or no regular file.
        OSError: the file cannot be opened.
    """
    with open_regular(path, root=root) as file:
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


def append_line(path: Path, value: object, *, root: Path) -> None:
    """Appends one line; an incomplete last line, which a killed process left, is removed before.

    Args:
        path: of the file; it and its folder are made.
        value: of the line.
        root: a folder from which on no link is followed.

    Raises:
        OSError: the file cannot be written.
        DataFault: it is a link, has further names, or ends in what is longer than a line.
    """
    with open_to_append(path, root=root) as file:
        cut_incomplete(file, path)
        file.write(to_line(value).encode() + b"\n")


def cut_incomplete(file: BinaryIO, path: Path) -> int:
    """Cuts a file after its last newline.

    Args:
        file: open for reading and writing.
        path: of the file, for the message.

    Returns:
        Its size.

    Raises:
        DataFault: more than a line would be cut; the file stays as it is.
    """
    end = file.seek(0, 2)
    size = end
    while size > 0:
        if end - size > LARGEST_LINE:
            raise DataFault(f"{path}: its last line has at most {LARGEST_LINE} bytes", kind="too large")
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
