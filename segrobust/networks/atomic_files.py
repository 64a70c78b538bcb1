"""Files that are replaced in one step, and are on the disk by then."""

import glob
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path`, which replaces it at the end: readers see the old file or the new one, complete.

    The file is flushed to the disk before it takes the name, so that a loss of power leaves one of the two as well.
    Temporary files that a killed process left for the same path are removed; two processes must not write one path.

    Args:
        path: the file; its folder must exist.

    Raises:
        OSError: the file cannot be written; the old one is as before.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # not the temporary name
        raise
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # not every system opens folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
