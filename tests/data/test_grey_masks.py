"""Grey masks of few bits hold class indices; a decoder stretches them to the range of 8 bits."""

import struct
import zlib

import numpy as np
import pytest

from segrobust.data.files.masks import read_values


def write_png(path, labels, depth, color):
    """A PNG of any bit depth, grey (colour type 0) or with a palette (3), written by hand."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = labels.shape
    bits = (labels[..., None] >> np.arange(depth)[::-1]) & 1
    rows = b"".join(b"\0" + np.packbits(row.reshape(-1)).tobytes() for row in bits)
    palette = chunk(b"PLTE", bytes(range(3 * 2**depth))) if color == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("depth", "color"), [(2, 0), (4, 0), (8, 0), (2, 3), (4, 3)])
def test_labels_are_those_that_are_stored(tmp_path, depth, color):
    labels = np.random.default_rng(0).integers(0, 2 ** min(depth, 7), (5, 7), dtype=np.uint8)
    write_png(tmp_path / "mask.png", labels, depth, color)
    read = read_values(tmp_path / "mask.png")
    assert read.dtype == np.uint8
    assert (read == labels).all()
