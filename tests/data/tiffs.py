"""Writes TIFFs by hand, so that readers are compared with the format itself. Source: Adobe, "TIFF Revision 6.0"."""

import struct
import zlib
from pathlib import Path

import numpy as np

FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(
    *pages: np.ndarray,
    order: str = "<",
    planar: bool = False,
    big: bool = False,
    deflate: bool = False,
    tile: int = 0,
    photometric: int = 1,
    extra: int = 0,
    rows: int = 5,
    tags: dict[int, int] | None = None,
) -> bytes:
    """A TIFF.

    Args:
        pages: `(H, W, C)` each.
        order: "<" for Intel, ">" for Motorola.
        planar: whether channels are stored one after the other.
        big: whether it is a BigTIFF.
        deflate: whether strips are compressed.
        tile: side of tiles in pixels; 0 for strips.
        photometric: meaning of the values; 2 for RGB.
        extra: what channels beyond grey or RGB are; 1 and 2 are alpha.
        rows: of a strip.
        tags: further ones, or others, of the first page.
    """
    pointer = "Q" if big else "I"
    content = bytearray(struct.pack(f"{order}2sH", b"II" if order == "<" else b"MM", 43 if big else 42))
    content += struct.pack(f"{order}HHQ", 8, 0, 0) if big else struct.pack(f"{order}I", 0)
    link = len(content) - struct.calcsize(pointer)
    for index, page in enumerate(pages):
        height, width, channels = page.shape
        planes = np.moveaxis(page, 2, 0)[..., None] if planar else page[None]
        places, sizes = [], []
        for plane in planes:
            for part in _parts(plane.astype(page.dtype.newbyteorder(order)), tile, rows):
                stored = zlib.compress(part.tobytes()) if deflate else part.tobytes()
                places.append(len(content))
                sizes.append(len(stored))
                content += stored + bytes(len(stored) % 2)
        own = 3 if photometric == 2 else 1
        entries: dict[int, tuple[str, tuple[int, ...]]] = {
            256: ("I", (width,)),
            257: ("I", (height,)),
            258: ("H", (page.dtype.itemsize * 8,) * channels),
            259: ("H", (8 if deflate else 1,)),
            262: ("H", (photometric,)),
            (324 if tile else 273): (pointer, tuple(places)),
            277: ("H", (channels,)),
            (325 if tile else 279): (pointer, tuple(sizes)),
            284: ("H", (2 if planar else 1,)),
            339: ("H", (FORMATS[page.dtype.kind],) * channels),
        }
        entries |= {322: ("I", (tile,)), 323: ("I", (tile,))} if tile else {278: ("I", (rows,))}
        if channels > own:
            entries[338] = ("H", (extra,) * (channels - own))
        entries |= {tag: ("I", (value,)) for tag, value in (tags or {}).items() if index == 0}
        place = append_page(content, entries, order, big=big)
        struct.pack_into(f"{order}{pointer}", content, link, place)
        link = len(content) - struct.calcsize(pointer)
    return bytes(content)


def write_tiff(path: Path, *pages: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiff(*pages, **options))  # type: ignore[arg-type]


def _parts(plane, tile, rows):
    if not tile:
        yield from (plane[top : top + rows] for top in range(0, len(plane), rows))
        return
    height, width, _ = plane.shape
    padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
    for top in range(0, height, tile):
        yield from (padded[top : top + tile, left : left + tile] for left in range(0, width, tile))


def append_page(content, entries, order, *, big):
    """Appends a directory and what it points to; gives its place."""
    types = {"H": 3, "I": 4, "Q": 16}
    pointer, width = ("Q", 8) if big else ("I", 4)
    fields = []
    for tag, (form, values) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{form}", *values)
        if len(packed) > width:
            place = len(content)
            content += packed + bytes(len(packed) % 2)
            packed = struct.pack(f"{order}{pointer}", place)
        head = struct.pack(f"{order}HH{pointer}", tag, types[form], len(values))
        fields.append(head + packed.ljust(width, b"\0"))
    place = len(content)
    content += struct.pack(f"{order}{'Q' if big else 'H'}", len(fields)) + b"".join(fields)
    content += struct.pack(f"{order}{pointer}", 0)
    return place
