"""Arrays of others in NumPy's `.npy` format: numbers alone, never pickled objects, and no more than the file holds."""

import math
import os
import tokenize
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format
from PIL import Image

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.regular_files import open_regular

_LONGEST_HEADER: Final = 4096
"""Characters; NumPy writes 54 to 118 for an array of numbers."""

_KINDS: Final = "biuf"
"""Booleans, integers and floating-point numbers, as `numpy.dtype.kind` names them."""


def npy_shape(path: Path) -> tuple[int, ...]:
    """The shape of an array by the header of its file; nothing else is read.

    Raises:
        DataFault: as `read_npy`.
    """
    with _opened(path) as file:
        return _header(file, path)[0]


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a file.

    Args:
        path: a regular file as `numpy.save` writes it.

    Raises:
        DataFault: no regular file, another format, values that are not numbers, a shape that does not fit the bytes of
            the file, or more elements than Pillow allows pixels.
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
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, is_fortran, dtype = read(file, max_header_size=_LONGEST_HEADER)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError, tokenize.TokenError) as error:
        reason = str(error).partition("\n")[0]
        raise DataFault(f"{path} is not an array as numpy.save writes it: {reason}", kind="unreadable") from error
    if dtype.kind not in _KINDS:
        raise DataFault(f"{path} holds {dtype}, and only arrays of numbers are read", kind="unreadable")
    if any(side < 0 for side in shape):
        raise DataFault(f"{path} states the shape {shape}, which has a negative side", kind="unreadable")
    count, most = math.prod(shape), Image.MAX_IMAGE_PIXELS
    if most is not None and count > most:
        raise DataFault(
            f"{path} has {count} values, the limit is {most} pixels. Raise PIL.Image.MAX_IMAGE_PIXELS if you trust it",
            kind="too large",
        )
    there = os.fstat(file.fileno()).st_size - file.tell()
    if count * dtype.itemsize > there:
        raise DataFault(
            f"{path} is cut: its header states {count * dtype.itemsize} bytes of values, and {there} are there",
            kind="unreadable",
        )
    return shape, is_fortran, dtype
