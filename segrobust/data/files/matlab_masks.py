"""Masks in MATLAB files of version 5: one matrix of bytes in a structure, and nothing else of the file.

Source: MathWorks, "MAT-File Format", level 5. A general reader makes every array that a file states, and a file of a
few bytes can state any size; here sizes are compared with the bytes that are there before anything is made.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from segrobust.data.segmentation_dataset import Pixels
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import shortened
from segrobust.untrusted.regular_files import read_limited

_LARGEST_FILE: Final = 2**20
"""Bytes; a mask of SBD has some ten thousand."""

_LARGEST_CONTENT: Final = 2**24
"""Bytes after decompression; a mask of SBD and its boundaries have some hundred thousand."""

_HEADER: Final = 128
_INT8, _UINT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 14, 15
_STRUCTURE, _BYTES = 2, 9
_MOST_FIELDS: Final = 64


class _Malformed(Exception):
    """The content is not of the form that is read."""


class _NoBytes(Exception):
    """The matrix holds other values than bytes."""


@dataclass(frozen=True)
class _Matrix:
    """An array: its class, its dimensions, its name, and the elements that follow these."""

    kind: int
    shape: tuple[int, ...]
    name: str
    rest: Iterator[tuple[int, memoryview]]


def read_mask_of_structure(path: Path, variable: str, field: str) -> Pixels:
    """A field of a structure, `(H, W)`.

    Args:
        path: the file.
        variable: name of the structure, of one element.
        field: name of the field, a matrix of bytes.

    Raises:
        DataFault: the file is too large, before or after decompression, or damaged, or holds something else.
    """
    try:
        content = read_limited(path, _LARGEST_FILE, "a mask in MATLAB's format")
        return _find(content, variable, field)
    except _NoBytes as error:
        raise DataFault(f"{path}: {variable}.{field} must be a matrix of bytes", kind="mode") from error
    except (_Malformed, struct.error, zlib.error) as error:
        raise DataFault(
            f"{path} is not a MATLAB file of version 5 with the matrix {variable}.{field}: {error}", kind="unreadable"
        ) from error
    except FileNotFoundError as error:
        raise DataFault(f"{path} is missing", kind="unreadable") from error


def _find(content: bytes, variable: str, field: str) -> Pixels:
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        raise _Malformed("its header is of another version or cut")
    order: Literal["<", ">"] = "<" if content[126:128] == b"IM" else ">"
    room = _LARGEST_CONTENT
    for kind, data in _elements(memoryview(content)[_HEADER:], order):
        if kind == _COMPRESSED:
            whole = _inflated(data, room)
            room -= len(whole)
            kind, data = next(_elements(memoryview(whole), order), (0, data[:0]))
        if kind != _MATRIX:
            continue
        matrix = _matrix(data, order)
        if matrix.name == variable:
            return _pixels(_field(matrix, field, order))
    raise _Malformed(f"it has no variable {variable}")


def _inflated(data: memoryview, room: int) -> bytes:
    stream = zlib.decompressobj()
    whole = stream.decompress(data, room + 1)
    if len(whole) > room:
        raise _Malformed(f"its content has more than {_LARGEST_CONTENT} bytes after decompression")
    if not stream.eof:
        raise _Malformed("its compressed data are cut")
    return whole


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of one element after the other."""
    while len(data) >= 8:
        kind, size = struct.unpack_from(f"{order}II", data)
        if kind >> 16:  # a small element: type and size in the first four bytes, the data in the next
            kind, size, start, end = kind & 0xFFFF, kind >> 16, 4, 8
            if size > 4:
                raise _Malformed("a small element states more than four bytes")
        else:
            start = 8
            end = start + size if kind == _COMPRESSED else start + -(-size // 8) * 8
        if start + size > len(data):
            raise _Malformed("an element is cut")
        yield kind, data[start : start + size]
        data = data[end:]


def _matrix(data: memoryview, order: str) -> _Matrix:
    parts = _elements(data, order)
    flags, shape, name = (_next(parts, kind) for kind in (_UINT32, _INT32, _INT8))
    (kind,) = struct.unpack_from(f"{order}I", flags)
    if len(shape) % 4 or len(shape) > 16:
        raise _Malformed("an array has no dimensions, or more than four")
    dimensions = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    return _Matrix(kind & 0xFF, dimensions, bytes(name).decode("ascii", "replace"), parts)


def _next(parts: Iterator[tuple[int, memoryview]], kind: int) -> memoryview:
    found, data = next(parts, (0, memoryview(b"")))
    if found != kind:
        raise _Malformed(f"an element of type {kind} is missing")
    return data


def _field(matrix: _Matrix, wanted: str, order: str) -> _Matrix:
    if matrix.kind != _STRUCTURE or any(size != 1 for size in matrix.shape):
        raise _Malformed(f"{shortened(matrix.name)} is not a structure of one element")
    (width,) = struct.unpack_from(f"{order}i", _next(matrix.rest, _INT32))
    names = bytes(_next(matrix.rest, _INT8))
    if width < 1 or len(names) % width or len(names) // width > _MOST_FIELDS:
        raise _Malformed("its names of fields are damaged, or too many")
    fields = [
        names[start : start + width].split(b"\0")[0].decode("ascii", "replace") for start in range(0, len(names), width)
    ]
    if wanted not in fields:
        raise _Malformed(f"its fields are {shortened(fields)}")
    for name in fields:
        data = _next(matrix.rest, _MATRIX)
        if name == wanted:
            return _matrix(data, order)
    raise _Malformed("its fields are cut")


def _pixels(matrix: _Matrix) -> Pixels:
    if matrix.kind != _BYTES or len(matrix.shape) != 2:
        raise _NoBytes
    height, width = matrix.shape
    data = _next(matrix.rest, _UINT8)
    if min(height, width) < 1 or height * width != len(data):
        raise _Malformed(f"a matrix of {height} x {width} has {len(data)} bytes")
    return np.ascontiguousarray(np.frombuffer(data, dtype=np.uint8).reshape(width, height).T)
