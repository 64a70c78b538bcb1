"""Arrays of others in NumPy's `.npy` format: numbers alone, never pickled objects, and no more than the file holds."""

import math
import os
import tokenize
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.pictures import check_stored
from segrobust.untrusted.regular_files import open_regular

_LONGEST_HEADER: Final = 4096
"""Characters; NumPy writes 54 to 118 for an array of numbers."""

_LONGEST_REASON: Final = 200
"""Characters of what NumPy says, which may hold the whole header."""

_MALFORMED: Final = (
    *(ValueError, SyntaxError, TypeError, KeyError, OverflowError, RecursionError, MemoryError),
    tokenize.TokenError,
)
"""What NumPy raises at headers that it cannot read."""

_KINDS: Final = "biuf"
"""Booleans, integers and floating-point numbers, as `numpy.dtype.kind` names them."""


def npy_form(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array by the header of its file; nothing else is read.

    Raises:
        DataFault: as `read_npy`.
    """
    with _opened(path) as file:
        shape, _, dtype = _header(file, path)
    return shape, dtype


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a file.

    Args:
        path: a regular file as `numpy.save` writes it.

    Raises:
        DataFault: no regular file, another format, values that are not numbers, a shape that does not fit the bytes of
            the file, or more than eight bytes for each pixel that Pillow allows.
    """
    with _opened(path) as file:
        shape, is_fortran, dtype = _header(file, path)
        values = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype=dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")


def _opened(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as error:
        raise DataFault(f"{path} cannot be read: {error.strerror or error}", kind="unreadable") from error


def _header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type; the file is left at the first value."""
    try:
        version = npy_format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the format")
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, is_fortran, dtype = read(file, max_header_size=_LONGEST_HEADER)
    except _MALFORMED as error:
        reason = str(error).partition("\n")[0][:_LONGEST_REASON]
        raise DataFault(f"{path} is not an array as numpy.save writes it: {reason}", kind="unreadable") from error
    if dtype.kind not in _KINDS:
        raise DataFault(f"{path} holds {dtype}, and only arrays of numbers are read", kind="unreadable")
    if any(side < 0 for side in shape):
        raise DataFault(f"{path} states the shape {shape}, which has a negative side", kind="unreadable")
    stated, size = math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size
    check_stored(path, stated, size)
    if stated != size - file.tell():
        raise DataFault(
            f"{path} is damaged: its header states {stated} bytes of values, and {size - file.tell()} are there",
            kind="unreadable",
        )
    return shape, is_fortran, dtype
