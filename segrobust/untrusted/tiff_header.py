"""What a TIFF says about its pixels, read from its tags alone and before any decoder sees it.

Decoders of pictures leave out what they have no name for: pages after the first, channels after the third, the lower
half of 16 bits. Source: Adobe, "TIFF Revision 6.0"; "BigTIFF" of libtiff.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.picture_parts import has_too_many_parts
from segrobust.untrusted.regular_files import open_regular

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _FORMAT = 274, 277, 322, 323, 338, 339

_TAGS: Final = {
    _SUBFILE,
    _WIDTH,
    _HEIGHT,
    _BITS,
    _COMPRESSION,
    _PHOTOMETRIC,
    _ORIENTATION,
    _SAMPLES,
    _TILE_WIDTH,
    _TILE_HEIGHT,
    _EXTRA,
    _FORMAT,
}
_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Formats of `struct` by the type of a tag's values."""

_MOST_VALUES: Final = 4096
"""Of a tag that is read: one per channel at most."""

_MOST_TAGS: Final = 4096
_MOST_PAGES: Final = 64
_REDUCED, _MASK = 1, 4
"""Bits of the tag NewSubfileType: an overview of another page, a mask of its valid pixels."""

_DTYPES: Final = {1: "uint", 2: "int", 3: "float"}

PHOTOMETRIC: Final = {
    0: "white is zero",
    1: "grey",
    2: "RGB",
    3: "palette",
    5: "CMYK",
    6: "YCbCr",
    8: "CIE L*a*b*",
}


@dataclass(frozen=True, kw_only=True)
class TiffHeader:
    """The first page of a TIFF, and how many there are.

    Attributes:
        size: `(H, W)`.
        channels: samples of a pixel.
        dtype: of a sample, such as "uint16"; "uint12" for packed samples of 12 bits.
        bits: of a sample.
        photometric: what the samples mean: see `PHOTOMETRIC`.
        compression: tag of the scheme.
        num_extra: channels beyond those of `photometric`.
        has_alpha: whether one of these is an opacity, by its tag.
        num_pages: pictures in the file, without overviews.
        has_mask: whether the file has a mask of valid pixels.
        orientation: how viewers turn it; 1 for not at all.
        tile: `(H, W)` of a tile; None for strips.
    """

    size: tuple[int, int]
    channels: int
    dtype: str
    bits: int
    photometric: int
    compression: int
    num_extra: int
    has_alpha: bool
    num_pages: int
    has_mask: bool
    orientation: int
    tile: tuple[int, int] | None


class _Malformed(Exception):
    """The tags are not of the form that is read."""


def read_tiff_header(path: Path) -> TiffHeader:
    """Reads the tags of a TIFF or BigTIFF, of either order of bytes.

    Raises:
        DataFault: no regular file, no TIFF, tags that are damaged or missing, channels of several types, or more pages
            than are looked at.
    """
    try:
        with open_regular(path) as file:
            if has_too_many_parts(file, os.fstat(file.fileno()).st_size, "TIFF"):
                raise _Malformed("it has more tags, strips or tiles than are read")
            file.seek(0)
            pages = list(_pages(file))
        return _header(pages)
    except (_Malformed, struct.error, OSError) as error:
        raise DataFault(f"{path} cannot be read as an image: {error}", kind="unreadable") from error


def _header(pages: list[dict[int, tuple[int, ...]]]) -> TiffHeader:
    whole = [page for page in pages if not _one(page, _SUBFILE, 0) & (_REDUCED | _MASK)]
    if not whole:
        raise _Malformed("the TIFF has no page")
    first = whole[0]
    channels = _one(first, _SAMPLES, 1)
    bits, formats = first.get(_BITS, (1,)), first.get(_FORMAT, (1,))
    if len({*bits}) != 1 or len({*formats}) != 1:
        raise _Malformed(f"the channels of the TIFF are of several types: bits {bits[:4]}, formats {formats[:4]}")
    size = _one(first, _HEIGHT), _one(first, _WIDTH)
    if min(size) < 1:
        raise _Malformed(f"the TIFF is of {size[0]} x {size[1]} pixels")
    if channels < 1 or formats[0] not in _DTYPES or not 1 <= bits[0] <= 64:
        raise _Malformed(f"the TIFF has {channels} channels of format {formats[0]} with {bits[0]} bits")
    photometric = _one(first, _PHOTOMETRIC, 1)
    own = {2: 3, 5: 4, 6: 3, 8: 3}.get(photometric, 1)
    extra = first.get(_EXTRA, ())
    tile = (_one(first, _TILE_HEIGHT), _one(first, _TILE_WIDTH)) if _TILE_WIDTH in first else None
    return TiffHeader(
        size=size,
        channels=channels,
        dtype=f"{_DTYPES[formats[0]]}{bits[0]}",
        bits=bits[0],
        photometric=photometric,
        compression=_one(first, _COMPRESSION, 1),
        num_extra=max(channels - own, 0),
        has_alpha=any(kind in (1, 2) for kind in extra),
        num_pages=len(whole),
        has_mask=any(_one(page, _SUBFILE, 0) & _MASK for page in pages),
        orientation=_one(first, _ORIENTATION, 1),
        tile=tile,
    )


def _one(page: dict[int, tuple[int, ...]], tag: int, default: int | None = None) -> int:
    values = page.get(tag, () if default is None else (default,))
    if not values:
        raise _Malformed(f"the TIFF lacks the tag {tag}")
    return values[0]


def _pages(file: BinaryIO) -> Iterator[dict[int, tuple[int, ...]]]:
    """The tags of each page that are integers and of interest."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise _Malformed("a file that ends in .tif must hold a TIFF")
    version = struct.unpack(f"{order}H", head[2:4])[0]
    if version not in (42, 43):
        raise _Malformed(f"the TIFF has version {version}")
    is_big = version == 43
    place = struct.unpack(f"{order}Q", head[8:16])[0] if is_big else struct.unpack(f"{order}I", head[4:8])[0]
    seen: set[int] = set()
    while place:
        if place in seen or len(seen) >= _MOST_PAGES * 8:
            raise _Malformed("the pages of the TIFF are too many, or a ring")
        seen.add(place)
        tags, place = _page(file, place, order, is_big=is_big)
        yield tags


def _page(file: BinaryIO, place: int, order: str, *, is_big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """The tags of one page, and the place of the next; 0 at the end."""
    entry, count, pointer = (
        (f"{order}HHQ", f"{order}Q", f"{order}Q") if is_big else (f"{order}HHI", f"{order}H", f"{order}I")
    )
    number = _unpack(file, place, count)[0]
    if number > _MOST_TAGS:
        raise _Malformed(f"a page of the TIFF has {number} tags")
    width = struct.calcsize(pointer)
    start, step = place + struct.calcsize(count), struct.calcsize(entry) + width
    tags = {}
    for index in range(number):
        at = start + index * step
        tag, kind, length = _unpack(file, at, entry)
        if tag in _TAGS and kind in _INTEGERS and 0 < length <= _MOST_VALUES:
            form = f"{order}{length}{_INTEGERS[kind]}"
            inside = at + step - width
            tags[tag] = _unpack(
                file, inside if struct.calcsize(form) <= width else _unpack(file, inside, pointer)[0], form
            )
        elif tag in _TAGS:
            raise _Malformed(f"the tag {tag} of the TIFF has {length} values of type {kind}")
    return tags, _unpack(file, start + number * step, pointer)[0]


def _unpack(file: BinaryIO, place: int, form: str) -> tuple[int, ...]:
    size = struct.calcsize(form)
    if place + size > os.fstat(file.fileno()).st_size:
        raise _Malformed("the tags of the TIFF lie behind its end")
    file.seek(place)
    return struct.unpack(form, file.read(size))
