"""The parts that a picture file says it has: chunks, markers, blocks, tags. Pillow reads each of them in Python.

A part takes a few bytes in the file and some microseconds to read, so that millions of empty ones keep a reader busy
for minutes. They are counted here until there are too many, without reading their content. Some parts take far longer:
a profile of colours is inflated, and blocks of EXIF are joined, each time anew. Encoders write one of each.

Sources: ISO/IEC 15948 (PNG); ITU-T T.81, annex B (JPEG); CompuServe, "Graphics Interchange Format, version 89a"; Adobe,
"TIFF Revision 6.0".
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import BinaryIO, Final

_MOST_SMALL: Final = 2**15
_LEAST_SIZES: Final = {"PNG": 2048, "GIF": 128}
"""Mean bytes of a part from which on there may be any number; encoders write 8192 and more, and 255, but for a few
parts. A JPEG has its parts before the pixels, which do not grow with them."""

_ONCE: Final = _MOST_SMALL // 4
"""What a part counts of which encoders write one."""

_MOST_VALUES: Final = 2**20
"""Of the tags of a TIFF: each strip or tile has two."""


def has_too_many_parts(file: BinaryIO, size: int, kind: str) -> bool:
    """Whether a file has more parts than an encoder writes. Files that are cut or damaged are left to the decoder.

    Args:
        file: of the picture, at any position.
        size: its bytes.
        kind: its format, as Pillow calls it; other formats than PNG, JPEG, GIF and TIFF are read outside Python.
    """
    least = _LEAST_SIZES.get(kind)
    most = _MOST_VALUES if kind == "TIFF" else _MOST_SMALL + (size // least if least else 0)
    count = 0
    with suppress(struct.error, IndexError, OverflowError, ValueError):  # the last two: a place behind all files
        for number in _PARTS[kind](file) if kind in _PARTS else ():
            count += number
            if count > most:
                return True
    return False


_EXIF: Final = b"Exif\0\0"
_LEAST_OF_SEGMENT: Final = {
    **dict.fromkeys({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}, 3),  # components of a frame
    0xDB: 65,  # a table of quantisation
    0xED: 12,  # a block of Photoshop
}
"""Bytes of the smallest part of a segment of a JPEG that Pillow reads one by one, by the marker."""


def _png(file: BinaryIO) -> Iterator[int]:
    place = 8
    while True:
        file.seek(place)
        length, name = struct.unpack(">I4s", file.read(8))
        place += 12 + length
        yield _ONCE if name == b"iCCP" else 1


def _jpeg(file: BinaryIO) -> Iterator[int]:
    """Markers up to the first scan, and bytes that fill the space between them."""
    file.seek(2)
    while True:
        first, second = file.read(1), file.read(1)
        if not second:
            return
        if first != b"\xff":
            yield 1
            file.seek(-1, 1)
            continue
        while second == b"\xff":
            yield 1
            second = file.read(1)
        if second == b"\xda":
            return
        yield 1
        if second[0] not in (0x00, 0x01, *range(0xD0, 0xD9)):
            (length,) = struct.unpack(">H", file.read(2))
            start = file.read(min(max(length - 2, 0), len(_EXIF)))
            if second == b"\xe1" and start == _EXIF:
                yield _ONCE
            elif second[0] in _LEAST_OF_SEGMENT:
                yield length // _LEAST_OF_SEGMENT[second[0]]
            file.seek(max(length - 2, 0) - len(start), 1)


def _gif(file: BinaryIO) -> Iterator[int]:
    """Blocks and the parts that their data are divided into."""
    file.seek(10)
    yield from _skip_colors(file, file.read(3)[0])
    while (kind := file.read(1)[0]) != 0x3B:
        yield 1
        if kind == 0x2C:
            yield from _skip_colors(file, file.read(9)[8])
            file.read(1)
        elif kind == 0x21:
            file.read(1)
        else:
            continue
        while length := file.read(1)[0]:
            file.seek(length, 1)
            yield 1


def _skip_colors(file: BinaryIO, flags: int) -> Iterator[int]:
    if flags & 0x80:
        file.seek(3 * 2 ** ((flags & 7) + 1), 1)
    yield 0


def _tiff(file: BinaryIO) -> Iterator[int]:
    """The values of all tags of all pages, as far as these are not a ring."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = struct.unpack(f"{order}H", head[2:4])[0] == 43
    number_form, entry_form, link_form = ("Q", "HHQ8x", "Q") if is_big else ("H", "HHI4x", "I")
    (place,) = struct.unpack(f"{order}{link_form}", head[8:16] if is_big else head[4:8])
    seen: set[int] = set()
    while place and place not in seen:
        seen.add(place)
        file.seek(place)
        (number,) = struct.unpack(f"{order}{number_form}", file.read(struct.calcsize(number_form)))
        entry = struct.Struct(f"{order}{entry_form}")
        for _ in range(number):
            yield max(1, entry.unpack(file.read(entry.size))[2])
        (place,) = struct.unpack(f"{order}{link_form}", file.read(struct.calcsize(link_form)))


_PARTS: Final[Mapping[str, Callable[[BinaryIO], Iterator[int]]]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "GIF": _gif,
    "TIFF": _tiff,
}
