"""Hostile files of millions of parts: chunks, markers, blocks, tags, names and ranges of a few bytes each."""

import io
import os
import struct
import zlib
from pathlib import Path

from hostile_files import CLASSES, IMAGE, LIST, MASK, hostile, png_chunk, replace
from PIL import Image

PARTS = r"divided into far more parts than an encoder"


def saved(kind: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB" if kind == "JPEG" else "P", (9, 8)).save(content, kind)
    return content.getvalue()


def before(content: bytes, place: int, part: bytes, number: int) -> bytes:
    return content[:place] + part * number + content[place:]


for _name, _place, _chunk in (
    ("texts", b"IDAT", png_chunk(b"tEXt", b"a\0b")),
    ("unknown chunks", b"IDAT", png_chunk(b"abCd", b"")),
    ("chunks after the pixels", b"IEND", png_chunk(b"abCd", b"")),
    ("empty pixels", b"IDAT", png_chunk(b"IDAT", b"")),
):

    def _write(root: Path, sign: bytes = _place, chunk: bytes = _chunk) -> None:
        content = (root / IMAGE).read_bytes()
        (root / IMAGE).write_bytes(before(content, content.index(sign) - 4, chunk, 2_000_000))

    _write.__name__ = f"a_png_of_two_million_{_name.replace(' ', '_')}"
    hostile("image", PARTS)(_write)

for _name, _part in (
    ("markers", b"\xff\xe9\0\2"),
    ("comments", b"\xff\xfe\0\2"),
    ("bytes that fill", b"\xff" * 5),
    ("bytes between markers", b"\0" * 5),
):

    def _write(root: Path, part: bytes = _part) -> None:
        replace(root, IMAGE, "b.jpg").write_bytes(before(saved("JPEG"), 20, part, 4_000_000))

    _write.__name__ = f"a_jpeg_of_four_million_{_name.replace(' ', '_')}"
    hostile("image", PARTS)(_write)


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content


def exif(number: int, size: int, place: int = 100) -> bytes:
    """So many tags, which all stand for the same bytes."""
    tags = b"".join(struct.pack(">HHII", tag, 7, size, place) for tag in range(1, number + 1))
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, number) + tags + bytes(4)


for _name, _segment, _number in (
    ("tables_of_quantisation", segment(0xDB, bytes(65 * 1000)), 1000),
    ("blocks_of_photoshop", segment(0xED, b"Photoshop 3.0\0" + (b"8BIM\3\xf0" + bytes(6)) * 5400), 300),
    ("components", segment(0xC0, bytes(65_000)), 200),
    ("blocks_of_exif", segment(0xE1, exif(0, 0) + bytes(65_000)), 1000),
):

    def _write(root: Path, part: bytes = _segment, number: int = _number) -> None:
        replace(root, IMAGE, "b.jpg").write_bytes(before(saved("JPEG"), 2, part, number))

    _write.__name__ = f"a_jpeg_of_many_{_name}"
    hostile("image", PARTS)(_write)

for _name, _chunk, _number in (
    ("profiles_of_colours", png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**20 - 1), 9)), 10_000),
    ("chunks_of_128_bytes", png_chunk(b"abCd", bytes(116)), 500_000),
):
    for _group, _place in (("image", IMAGE), ("mask", MASK)):

        def _write(root: Path, place: str = _place, chunk: bytes = _chunk, number: int = _number) -> None:
            content = (root / place).read_bytes()
            (root / place).write_bytes(before(content, content.index(b"IDAT") - 4, chunk, number))

        _write.__name__ = f"a_png_of_{_number}_{_name}"
        hostile(_group, PARTS)(_write)

for _name, _part in (("comments", b"!\xfe\1a\0"), ("parts of a comment", b"")):

    def _write(root: Path, part: bytes = _part) -> None:
        content = saved("GIF")
        comment = b"!\xfe" + b"\1a" * 5_000_000 + b"\0"
        place = content.index(b",\0\0\0\0")
        replace(root, MASK, "b.gif").write_bytes(before(content, place, part or comment, 3_000_000 if part else 1))

    _write.__name__ = f"a_gif_of_millions_of_{_name.replace(' ', '_')}"
    hostile("mask", PARTS)(_write)


def strips(path: Path, number: int) -> None:
    """A TIFF of one pixel in each strip, in a sparse file."""
    tags = {256: 1, 257: number, 258: 8, 259: 1, 262: 1, 273: number, 277: 1, 278: 1, 279: number}
    end = 8 + 2 + 12 * len(tags) + 4
    content = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    for tag, value in tags.items():
        place = {273: end, 279: end + 4 * number}.get(tag)
        content += struct.pack("<HHII", tag, 4, 1 if place is None else number, value if place is None else place)
    path.write_bytes(content + bytes(4))
    os.truncate(path, end + 8 * number)


@hostile("image", "more tags, strips or tiles than are read")
def a_tiff_of_five_million_strips(root: Path) -> None:
    strips(replace(root, IMAGE, "b.tif"), 5_000_000)


@hostile("measurement", "more tags, strips or tiles than are read")
def a_measured_tiff_of_five_million_strips(root: Path) -> None:
    strips(replace(root, IMAGE, "b.tif"), 5_000_000)


@hostile("measurement", "more tags, strips or tiles than are read")
def a_tiff_of_two_million_tags(root: Path) -> None:
    pages, tags = 510, struct.pack("<HHII", 60_000, 3, 1, 1) * 4090
    size = 2 + len(tags) + 4
    links = [8 + (page + 1) * size for page in range(pages - 1)] + [0]
    body = b"".join(struct.pack("<H", 4090) + tags + struct.pack("<I", link) for link in links)
    replace(root, IMAGE, "b.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 8) + body)


@hostile("list", "a list of names has at most 1048576")
def two_million_names(root: Path) -> None:
    (root / LIST).write_bytes(b"".join(b"%d\n" % number for number in range(2_000_000)))


@hostile("classes", "the ranges hold more than 65536 values")
def five_thousand_ranges(root: Path) -> None:
    ranges = ", ".join(f"{start}..{start + 60_000}" for start in range(5000))
    (root / CLASSES).write_text(f"names: [a, b]\nvalues: [0, 1]\nignore: [{ranges}]\n")
