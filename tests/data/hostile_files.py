"""Files that somebody made to do harm, by the reader that meets them.

Each entry writes one file (or link, FIFO, folder) into a small tree that is whole otherwise, and names what the error
must say. `hostile_worker.py` runs the readers of each group over them. An area of its own adds a group: entries here or
in a file of its own by `hostile`, and the readers in `READERS` of the worker.
"""

import gzip
import io
import os
import pickle
import socket
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dataset_trees import cityscapes_tree, sbd_tree, voc_tree, write_mat
from PIL import Image, PngImagePlugin
from tiffs import append_page, tiff
from trees import stripes, write_image, write_mask


@dataclass(frozen=True)
class HostileFile:
    """A file: its group, how it is written below a root, and a pattern of the error."""

    name: str
    group: str
    write: Callable[[Path], None]
    says: str


REGISTRY: dict[str, HostileFile] = {}
"""By name."""


def hostile(group: str, says: str):
    """Adds a function that writes a file; its name, with spaces, is that of the entry."""

    def add(write: Callable[[Path], None]) -> Callable[[Path], None]:
        register(group, f"{group}: {write.__name__.replace('_', ' ').strip()}", says, write)
        return write

    return add


def register(group: str, name: str, says: str, write: Callable[[Path], None]) -> None:
    assert name not in REGISTRY, name
    REGISTRY[name] = HostileFile(name, group, write, says)


# --- trees that the files are put into


def folder_tree(root: Path) -> None:
    for name in ("a", "b"):
        write_image(root / "images/val" / f"{name}.png", (8, 9))
        write_mask(root / "masks/val" / f"{name}.png", stripes((8, 9), (0, 1)))
    (root / "classes.yaml").write_text("names: [water, quay]\n")


def measurement_tree(root: Path) -> None:
    folder_tree(root)
    (root / "classes.yaml").write_text("names: [water, quay]\nrange: [0, 255]\n")


def sbd_and_voc_tree(root: Path) -> None:
    voc_tree(root)
    sbd_tree(root, root)


TREES = {
    "image": folder_tree,
    "mask": folder_tree,
    "measurement": measurement_tree,
    "classes": folder_tree,
    "file name": folder_tree,
    "city": cityscapes_tree,
    "list": sbd_and_voc_tree,
    "matlab": sbd_and_voc_tree,
    "archive": lambda root: root.mkdir(),
    "label map": lambda root: root.mkdir(),
    "json": lambda root: root.mkdir(),
}

IMAGE, MASK, CLASSES = "images/val/b.png", "masks/val/b.png", "classes.yaml"
LIST = "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
MAT = "benchmark_RELEASE/dataset/cls/2011_000123.mat"
CITY = "leftImg8bit/val"

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 8\n(outside) (w) file closefile showpage\n"


def replace(root: Path, old: str, new: str) -> Path:
    """The place of another file instead of the old one."""
    (root / old).unlink()
    return (root / old).parent / new


# --- files of any kind in the place of an image, mask, list, document or label map


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def unix_socket(path: Path) -> None:
    path.unlink(missing_ok=True)
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has at most 108 bytes
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5))  # /dev/zero
    except (PermissionError, OSError):
        os.mkfifo(path)


def link_out(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/passwd")


def link_to_itself(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


PLACES = {"image": IMAGE, "mask": MASK, "classes": CLASSES, "list": LIST, "matlab": MAT, "label map": "map.png"}
NO_FILES = {
    fifo: r"named pipe|regular file",
    directory: "is a folder|there is no label map",
    unix_socket: "is a socket",
    device: "is a device|named pipe",
    link_out: "symbolic link",
    link_to_itself: r"leads nowhere|Too many levels|symbolic link",
}
for _group, _place in PLACES.items():
    for _make, _says in NO_FILES.items():
        if _group != "label map" or _make not in (link_out, link_to_itself):  # its path is given by the user
            register(
                _group,
                f"{_group}: {_make.__name__.replace('_', ' ')}",
                _says,
                lambda root, make=_make, place=_place: make(root / place),
            )

OTHER_FORMATS = {
    "postscript": (POSTSCRIPT, "PostScript"),
    "eps with a preview": (b"\xc5\xd0\xd3\xc6" + struct.pack("<7I", 32, 90, 0, 0, 0, 0, 0) + POSTSCRIPT, "PostScript"),
    "pdf": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "PDF"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>', "XML or SVG"),
    "html": (b"<!doctype html><title>Sign in</title>", "HTML page"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "Git LFS"),
    "zip": (b"PK\x03\x04" + bytes(60), "zip archive"),
    "pickle": (pickle.dumps(print), "damaged or of another format"),
    "nothing": (b"", "it is empty"),
}
for _format in ("GIF", "TIFF", "JPEG", "BMP", "WEBP", "PPM", "ICO", "PCX", "SGI", "TGA"):
    _buffer = io.BytesIO()
    Image.new("RGB", (9, 8)).save(_buffer, _format)
    _says = _format if _format in ("GIF", "TIFF", "JPEG", "BMP", "WEBP") else "must hold PNG"
    OTHER_FORMATS[f"{_format.lower()} named png"] = (_buffer.getvalue(), _says)
for _group in ("image", "mask", "label map"):
    for _name, (_content, _says) in OTHER_FORMATS.items():
        if _group != "mask" or _name in ("postscript", "gif named png", "tiff named png"):
            register(
                _group,
                f"{_group}: {_name}",
                _says,
                lambda root, content=_content, place=PLACES[_group]: (root / place).write_bytes(content) and None,
            )


# --- pictures that grow


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, color_type: int = 2, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks)


def solid_png(side: int, channels: int) -> bytes:
    """A whole PNG of zeros, row by row, so that the test needs little memory."""
    packer, row = zlib.compressobj(9), bytes(1 + side * channels)
    content = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    color_type = 2 if channels == 3 else 0
    return png(side, side, png_chunk(b"IDAT", content), png_chunk(b"IEND", b""), color_type=color_type)


def zeros_deflated(size: int) -> bytes:
    packer, part = zlib.compressobj(9), bytes(2**20)
    return b"".join(packer.compress(part) for _ in range(size // 2**20)) + packer.flush()


@hostile("image", r"3600000000 pixels.*limit of")
def a_header_of_60000_squared(root):
    (root / IMAGE).write_bytes(png(60_000, 60_000, png_chunk(b"IDAT", b"")))


@hostile("mask", r"3600000000 pixels.*limit of")
def a_mask_header_of_60000_squared(root):
    (root / MASK).write_bytes(png(60_000, 60_000, png_chunk(b"IDAT", b""), color_type=0))


@hostile("image", r"more than 100 times as many")
def a_solid_picture_of_81_million_pixels(root):
    (root / IMAGE).write_bytes(solid_png(9000, 3))


@hostile("mask", r"more than 100 times as many")
def a_solid_mask_of_81_million_pixels(root):
    (root / MASK).write_bytes(solid_png(9000, 1))


@hostile("image", r"cannot be read as an image")
def a_colour_profile_of_128_megabytes(root):
    content = b"x\0\0" + zeros_deflated(128 * 2**20)
    (root / IMAGE).write_bytes(png(9, 8, png_chunk(b"iCCP", content), png_chunk(b"IDAT", b"")))


@hostile("image", r"cannot be read as an image")
def a_text_of_128_megabytes(root):
    content = b"x\0\x01\0\0\0" + zeros_deflated(128 * 2**20)
    (root / IMAGE).write_bytes(png(9, 8, png_chunk(b"iTXt", content), png_chunk(b"IDAT", b"")))


@hostile("image", r"bytes, more than .* pixels of three bytes")
def a_chunk_of_two_gigabytes_in_a_sparse_file(root):
    with (root / IMAGE).open("wb") as file:
        file.write(png(9, 8) + struct.pack(">I", 2**31 - 1) + b"tEXt")
        file.truncate(3 * 2**30)


@hostile("image", r"of \d+ x \d+ pixels, the limit|cannot be read as an image")
def a_tiff_with_tiles_of_60000_squared(root, place=IMAGE):
    path = replace(root, place, "b.tif")
    entries = {256: 9, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: 100}
    body = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    body += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    path.write_bytes(body + bytes(4) + zeros_deflated(2**20))


@hostile("image", r"cannot be read as an image")
def a_tiff_whose_tag_states_four_billion_values(root):
    path = replace(root, IMAGE, "b.tif")
    body = struct.pack("<2sHIH", b"II", 42, 8, 2) + struct.pack("<HHII", 256, 4, 2**32 - 1, 8)
    path.write_bytes(body + struct.pack("<HHII", 257, 12, 2**32 - 1, 8) + bytes(64))


@hostile("image", r"\d+ pixels")
def a_webp_canvas_of_two_gigabytes(root):
    path = replace(root, IMAGE, "b.webp")
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0]) + (16383).to_bytes(3, "little") * 2
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas)


@hostile("image", r"3600000000 pixels")
def a_bmp_header_of_60000_squared(root):
    path = replace(root, IMAGE, "b.bmp")
    path.write_bytes(b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 1, 1, 0, 0))


@hostile("image", r"\d+ scans; a JPEG of at most 100")
def a_jpeg_of_2000_scans(root):
    path = replace(root, IMAGE, "b.jpg")
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(
        buffer, "JPEG", progressive=True
    )
    whole = buffer.getvalue()
    last = whole.rindex(b"\xff\xda")
    path.write_bytes(whole[:last] + whole[last:-2] * 2000 + b"\xff\xd9")


@hostile("image", r"cannot be read as an image")
def a_png_that_is_cut(root):
    whole = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(whole[: len(whole) // 2])


@hostile("image", r"more than 8 bits per channel")
def a_picture_of_floats(root):
    path = replace(root, IMAGE, "b.tif")
    Image.fromarray(np.zeros((8, 9), dtype=np.float32)).save(path)


@hostile("mask", r"has mode RGBA, and 72 of 72 pixels are transparent")
def a_mask_with_alpha(root):
    Image.new("RGBA", (9, 8)).save(root / MASK)


@hostile("mask", r"holds several pictures")
def a_tiff_of_two_pages(root):
    pages = [Image.new("L", (9, 8), value) for value in (0, 1)]
    pages[0].save(replace(root, MASK, "b.tif"), save_all=True, append_images=pages[1:])


@hostile("mask", r"of \d+ x \d+ pixels, the limit|cannot be read as an image")
def a_mask_with_tiles_of_60000_squared(root):
    a_tiff_with_tiles_of_60000_squared(root, MASK)


@hostile("mask", r"\d+ pixels|limit of")
def a_gif_of_60000_squared(root):
    size = struct.pack("<HH", 60_000, 60_000)
    body = b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b"," + bytes(4) + size + b"\0\x02\x02L\x01\0;"
    replace(root, MASK, "b.gif").write_bytes(body)


def npy(header: bytes, content: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + content


def described(dtype: str, shape: object) -> bytes:
    return f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()


def array(name: str, content: bytes, says: str) -> None:
    register("mask", f"mask: {name}", says, lambda root: replace(root, MASK, "b.npy").write_bytes(content) and None)


array("an array of pickled objects", npy(described("|O", (1,)), pickle.dumps([print])), "only arrays of numbers")
array(
    "an array of 10 ** 18 values",
    npy(described("|u1", (10**9, 10**9)), bytes(72)),
    "values in a file of .* the limit is",
)
array("an array that is cut", npy(described("|u1", (8, 9)), bytes(71)), "states 72 bytes of values, and 71 are there")
array("an array and another", npy(described("|u1", (8, 9)), bytes(200)), "states 72 bytes of values, and 200 are there")
array("an array with a negative side", npy(described("|u1", (-8, -9)), bytes(72)), "negative side")
array("an array of more sides", npy(described("|u1", (8, 3, 3)), bytes(72)), "a mask is an array")
array(
    "an array of records", npy(b"{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (1,)}"), "arrays of numbers"
)
array("an array whose header is code", npy(b"{'descr': open('outside', 'w')}"), "is not an array as numpy.save writes")
array("an array whose header nests", npy(b"[" * 117), "is not an array as numpy.save writes")
array("a pickle named npy", pickle.dumps(print), "is not an array as numpy.save writes")
array("nothing named npy", b"", "is not an array as numpy.save writes")
array("a header of 65535 bytes", b"\x93NUMPY\x01\0\xff\xff" + b"{" + b" " * 65533 + b"\n", "is not an array")


@hostile("mask", r"the mask has 625000000 pixels, the limit is")
def an_array_of_25000_squared(root):
    with replace(root, MASK, "b.npy").open("wb") as file:
        file.write(npy(described("|u1", (25_000, 25_000))))
        file.truncate(file.tell() + 25_000**2)


# --- images of any number of channels: arrays, TIFFs, PNGs of 16 bits

for _make, _says in NO_FILES.items():
    for _name in ("b.npy", "b.tif"):
        register(
            "measurement",
            f"measurement: {_make.__name__.replace('_', ' ')} {_name}",
            _says,
            lambda root, make=_make, name=_name: make(replace(root, IMAGE, name)),
        )


def pickled_array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([[print, os.system]], dtype=object), allow_pickle=True)
    return content.getvalue()


ARRAYS = {
    "of objects": (pickled_array(), "only arrays of numbers"),
    "of a terabyte": (npy(described("<u2", (2**20, 2**19, 1)), bytes(64)), "of values in a file of"),
    "of more bytes than it has": (
        npy(described("<u2", (8, 9, 3)), bytes(64)),
        "states 432 bytes of values, and 64 are",
    ),
    "of fewer bytes than it has": (
        npy(described("|u1", (8, 9, 3)), bytes(500)),
        "states 216 bytes of values, and 500 are",
    ),
    "whose sides overflow": (npy(described("<u2", (2**62, 2**62, 4)), bytes(64)), "of values in a file of"),
    "of a negative side": (npy(described("<u2", (-8, -9, 3)), bytes(432)), "negative side"),
    "of no side": (npy(described("<u2", "()"), bytes(2)), "holds an array of the shape"),
    "of records": (npy(described("V8", (8, 9)), bytes(576)), "only arrays of numbers"),
    "with a header of two gigabytes": (
        npy(b"{" * 100, version=2)[:8] + b"\xff\xff\xff\x7f" + b"{" * 99,
        "is not an array as numpy.save",
    ),
    "with a header of 4000 minus signs": (npy(b"-" * 4000), "is not an array as numpy.save"),
    "with a header of 60000 brackets": (npy(b"[" * 60_000), "is not an array as numpy.save"),
    "with a program for a header": (
        npy(b"__import__('os').system('true')" + b" " * 33),
        "is not an array as numpy.save",
    ),
    "with a header of ten thousand digits": (
        npy(described("<u2", f"({'9' * 10_000},)")),
        "is not an array as numpy.save",
    ),
    "of a later version": (npy(described("|u1", (8, 9, 3)), bytes(216), version=3), "version"),
    "that is a zip archive": (b"PK\x03\x04" + bytes(60), "is not an array as numpy.save"),
    "that is a pickle": (pickle.dumps(print), "is not an array as numpy.save"),
    "that is empty": (b"", "is not an array as numpy.save"),
    "of NaN": (npy(described("<f4", (8, 9, 3)), struct.pack("<f", float("nan")) * 216), "channel 0 holds NaN"),
    "of infinite values": (
        npy(described("<f4", (8, 9, 3)), struct.pack("<f", float("inf")) * 216),
        "channel 0 holds inf",
    ),
}
for _name, (_content, _says) in ARRAYS.items():
    register(
        "measurement",
        f"measurement: an array {_name}",
        _says,
        lambda root, content=_content: replace(root, IMAGE, "b.npy").write_bytes(content) and None,
    )


@hostile("measurement", r"in a file of \d+ bytes, the limit")
def an_array_in_a_sparse_file(root):
    with replace(root, IMAGE, "b.npy").open("wb") as file:
        file.write(npy(described("|u1", (2**15, 2**15, 3))))
        file.truncate(3 * 2**30)


_PIXELS = np.arange(216, dtype=np.uint8).reshape(8, 9, 3)


def _repeated(content: bytes) -> bytes:
    """The next page is the first one."""
    place = content.index(struct.pack("<HHII", 256, 4, 1, 9)) - 2
    number = struct.unpack_from("<H", content, place)[0]
    link = place + 2 + 12 * number
    return content[:link] + struct.pack("<I", place) + content[link + 4 :]


def _vrt() -> bytes:
    source = "<SimpleSource><SourceFilename>/etc/passwd</SourceFilename></SimpleSource>"
    return f"<VRTDataset rasterXSize='9' rasterYSize='8'><VRTRasterBand>{source}</VRTRasterBand></VRTDataset>".encode()


TIFFS = {
    "whose pages are a ring": (_repeated(tiff(_PIXELS)), "a ring"),
    "of 60000 squared": (tiff(_PIXELS, tags={256: 60_000, 257: 60_000}), "3600000000 pixels"),
    "of 60000 channels": (tiff(_PIXELS, tags={277: 60_000, 256: 9000, 257: 9000}), "bytes of values in a file of"),
    "with tiles of 60000 squared": (tiff(_PIXELS, tile=16, tags={322: 60_000, 323: 60_000}), "its tiles are of"),
    "whose strips lie behind its end": (tiff(_PIXELS, rows=8, tags={273: 2**31}), "cannot be read as an image"),
    "without a height": (tiff(_PIXELS, tags={257: 0}), "of 0 x 9 pixels"),
    "of complex values": (tiff(_PIXELS, tags={339: 6}), "of format 6"),
    "of an unknown compression": (tiff(_PIXELS, tags={259: 34_000}), "cannot be read as an image"),
    "whose pages lie behind its end": (b"II*\0\xff\xff\xff\x7f", "behind its end"),
    "whose tag has four billion values": (
        struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 258, 3, 2**32 - 1, 8, 0) + bytes(64),
        "more tags, strips or tiles than are read",
    ),
    "that is big and lies behind its end": (struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**63), "behind its end"),
    "that is a page": (b"<!doctype html><title>Sign in</title>", "must hold a TIFF"),
    "that names another file": (_vrt(), "must hold a TIFF"),
    "that is empty": (b"", "must hold a TIFF"),
    "that is cut": (tiff(_PIXELS)[:-40], "behind its end"),
}
for _name, (_content, _says) in TIFFS.items():
    register(
        "measurement",
        f"measurement: a tiff {_name}",
        _says,
        lambda root, content=_content: replace(root, IMAGE, "b.tif").write_bytes(content) and None,
    )


@hostile("measurement", r"more than 100 times as many")
def a_tiff_of_zeros_that_grows(root):
    side, rows = 6000, 600
    packed = zlib.compress(bytes(side * rows * 2), 9)
    content = bytearray(tiff(_PIXELS, rows=8, deflate=True))
    places = []
    for _ in range(side // rows):
        places.append(len(content))
        content += packed
    entries = {256: (side,), 257: (side,), 258: (16,), 259: (8,), 262: (1,), 273: places, 277: (1,), 278: (rows,)}
    entries[279] = [len(packed)] * len(places)
    place = append_page(content, {tag: ("I", tuple(each)) for tag, each in entries.items()}, "<", big=False)
    struct.pack_into("<I", content, 4, place)
    replace(root, IMAGE, "b.tif").write_bytes(content)


@hostile("measurement", r"3600000000 pixels.*limit of")
def a_png_of_16_bits_of_60000_squared(root):
    (root / IMAGE).write_bytes(png(60_000, 60_000, png_chunk(b"IDAT", b""), depth=16))


@hostile("measurement", r"cannot be read as an image")
def a_png_of_16_bits_that_is_cut(root):
    (root / IMAGE).write_bytes(png(9, 8, png_chunk(b"IDAT", zlib.compress(bytes(30))), depth=16))


# --- files of classes


def classes(name: str, text: str | bytes, says: str) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    register("classes", f"classes: {name}", says, lambda root: (root / CLASSES).write_bytes(content) and None)


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"names: *a{levels - 1}"])


classes("a few lines that stand for billions", laughs(10), "is an anchor")
classes("a list that holds itself", "names: &a [*a]", "is an anchor")
classes("an alias of nothing", "names: *a", r"is an alias|is not YAML")
classes("merged keys", "<<: {names: [a]}", "must hold names")
classes("100000 brackets", "names: " + "[" * 100_000, r"nested more than 32 deep|is not YAML")
classes("100000 brackets that close", "names: " + "[" * 100_000 + "]" * 100_000, "nested more than 32 deep|is not YAML")
classes("nested mappings", "".join("{a: " for _ in range(5000)) + "1" + "}" * 5000, "nested more than 32 deep")
classes("indented lists", "names:\n" + "".join(" " * i + "-\n" for i in range(1, 2000)), "nested more than 32 deep")
classes("a number of 100000 digits", "names: [a]\nignore_index: " + "9" * 100_000, "number of 100000 characters")
classes("a number in base 16", "names: [a]\nignore_index: 0x" + "f" * 100_000, "number of 100002 characters")
classes("a number in base 60", "names: [a]\nignore_index: 1" + ":59" * 50_000, "number of 150001 characters")
classes("values of a billion classes", "names: [a, b]\nvalues: 1..99999", "99999 entries for 2|from a smaller number")
classes("a range that ends in 20 digits", f"names: [a, b]\nignore: 0..{'9' * 20}", "a value is an integer")
classes("a value of 50 digits", f"names: [a, b]\nvalues: [0, {'9' * 50}]", "a value is an integer")
classes("values of a class that is not named", "names: [a, b]\nvalues: {a: 0, c: 1}", "values")
classes("masks outside", "names: [a, b]\nmasks: ../../{split}", "must lie below this folder")
classes("images at the root of the disk", "names: [a, b]\nimages: /etc/{split}", "must lie below this folder")
classes("a list outside", "names: [a, b]\nlist: ../{split}.txt", "must lie below this folder")
classes("an ending with a path", "names: [a, b]\nending: /../x.png", "must be how names end")
classes("true for an index", "names: [a]\nignore_index: yes", "must be a value that a mask can hold")
classes("code of python", "names: !!python/object/apply:os.system [touch outside]", "is a tag")
classes("a tag of its own", "names: !secret [a]", "is a tag")
classes("two documents", "names: [a]\n---\nnames: [b]", "2 documents")
classes("a key twice", "names: [a]\nnames: [b]", "occurs twice")
classes("a key that is a list", "? [a, b]\n: c\nnames: [a]", "a key must be text")
classes("five megabytes", "names: [" + "a, " * 1_700_000 + "b]", "a file of classes has at most 4194304")
classes("a million values", "names: [" + "1," * 1_000_000 + "1]", "more than 262144 values")
classes("bytes", bytes(range(256)), "not text in UTF-8")
classes("a zero byte", b"names: [a\0b]", "is not YAML")
classes("a text for a list", "names: " + "x" * 100_000, r"must be a list of strings, got 'xxx")
classes("a long list of numbers", "names: [" + "1, " * 100_000 + "1]", r"must be a list of strings, got \[1, 1")
classes("a colour of ten million", "names: [a]\npalette: [[10000000, 0, 0]]", "three integers in 0..255")
classes("a name of 10000 characters", f"names: [{'a' * 10_000}]", "10000 characters, at most 255")
classes("a blank name", 'names: [a, "  "]', "must not be blank")

UNPRINTABLE = {
    "escape": "\x1b[2J",
    "bell": "\x07",
    "line end": "\n",
    "carriage return": "\r",
    "right to left": "\u202e",
    "isolate": "\u2066",
    "no width": "\u200b",
    "byte order mark": "\ufeff",
    "line separator": "\u2028",
    "hangul filler": "\u3164",
    "tag letter": "\U000e0041",
    "c1 control": "\x9b",
}
for _name, _text in UNPRINTABLE.items():
    _codes = "".join(f"\\U{ord(character):08x}" for character in _text)
    classes(f"{_name} in a name", f'names: ["a{_codes}b"]', "cannot be printed")


# --- names on disk and in lists

for _name, _text in UNPRINTABLE.items():

    def _named(root, text=_text):
        for part in ("images", "masks"):
            os.link(root / part / "val/b.png", root / part / f"val/c{text}d.png")

    register("file name", f"file name: {_name}", "cannot be printed", _named)
    register(
        "list",
        f"list: {_name}",
        "cannot be printed" if _text not in "\n\r" else r"cannot be printed|names in .* without",
        lambda root, text=_text: (root / LIST).write_text(f"2007_000032\nx{text}y\n", newline="") and None,
    )


@hostile("file name", "cannot be printed")
def bytes_that_are_no_utf_8(root):
    for part in ("images", "masks"):
        os.link(root / part / "val/b.png", os.fsencode(root / part / "val") + b"/c\xff.png")


@hostile("city", "cannot be printed")
def a_city_that_clears_the_screen(root):
    (root / CITY / "x\x1b[2J").mkdir()


@hostile("city", "symbolic link")
def a_city_that_is_a_link(root):
    (root / CITY / "x").symlink_to("/etc")


for _name, _content, _says in (
    ("a path", b"../../../../etc/passwd\n", "is a path and not a name"),
    ("an absolute path", b"/etc/passwd\n", "is a path and not a name"),
    ("a zero byte", b"a\0b\n", "cannot be printed"),
    ("utf 16", "2007_000032\n".encode("utf-16"), "not a list of names in UTF-8"),
    ("a name twice", b"2007_000032\n2007_000032\n", "twice"),
    ("an ocean of names", b"a\n" * 2**23 + b"a", "a list of names has at most 16777216"),
):
    register("list", f"list: {_name}", _says, lambda root, c=_content: (root / LIST).write_bytes(c) and None)


# --- masks of SBD


def mat(*elements: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + b"".join(elements)


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(kind: int, shape: tuple[int, ...], name: bytes, *rest: bytes) -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, head + element(1, name) + b"".join(rest))


def structure(field: bytes, content: bytes, shape: tuple[int, ...] = (1, 1)) -> bytes:
    return array(2, shape, b"GTcls", element(5, struct.pack("<i", 32)), element(1, field.ljust(32, b"\0")), content)


def compressed(content: bytes) -> bytes:
    packed = zlib.compress(content, 9)
    return struct.pack("<II", 15, len(packed)) + packed


def matlab(name: str, content: Callable[[], bytes], says: str) -> None:
    register("matlab", f"matlab: {name}", says, lambda root: (root / MAT).write_bytes(content()) and None)


SEGMENTATION = b"Segmentation"
matlab(
    "380 kilobytes that grow to 380 megabytes",
    lambda: mat((lambda packed: struct.pack("<II", 15, len(packed)) + packed)(zeros_deflated(380 * 2**20))),
    "more than 16777216 bytes after decompression",
)
matlab(
    "twenty parts of a megabyte and a half",
    lambda: mat(*[compressed(array(9, (1, 1_500_000), b"x", element(2, bytes(1_500_000))))] * 20),
    "more than 16777216 bytes after decompression",
)
matlab("a billion cells", lambda: mat(compressed(array(1, (2**30, 1), b"GTcls"))), "not a structure of one element")
matlab(
    "a billion structures",
    lambda: mat(compressed(structure(SEGMENTATION, b"", (2**15, 2**15)))),
    "not a structure of one element",
)
matlab(
    "a matrix of two billion bytes that has eight",
    lambda: mat(structure(SEGMENTATION, array(9, (2**15, 2**16), b"", element(2, bytes(8))))),
    "a matrix of 32768 x 65536 has 8 bytes",
)
matlab(
    "a negative side",
    lambda: mat(structure(SEGMENTATION, array(9, (-1, -84), b"", element(2, bytes(84))))),
    "has 84 bytes",
)
matlab(
    "doubles", lambda: mat(structure(SEGMENTATION, array(6, (6, 14), b"", element(9, bytes(672))))), "matrix of bytes"
)
matlab("a sparse matrix", lambda: mat(structure(SEGMENTATION, array(5, (2**30, 2**30), b""))), "matrix of bytes")
matlab("another field", lambda: mat(structure(b"Boundaries", array(9, (1, 1), b"", element(2, b"\0")))), "fields are")
matlab(
    "a field name of no length",
    lambda: mat(array(2, (1, 1), b"GTcls", element(5, bytes(4)), element(1, b""))),
    "fields",
)
matlab("compressed in compressed", lambda: mat(compressed(compressed(compressed(bytes(64))))), "no variable GTcls")
matlab("an element that is cut", lambda: mat(struct.pack("<II", 14, 2**31)), "is cut")
matlab(
    "version 7.3",
    lambda: b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(384) + b"\x89HDF\r\n\x1a\n",
    "not a MATLAB",
)
matlab("version 4", lambda: struct.pack("<5I", 0, 2**15, 2**15, 0, 6) + b"GTcls\0" + bytes(200), "another version")
matlab("a pickle", lambda: pickle.dumps(print), "another version")
matlab("two megabytes", lambda: mat(bytes(2**21)), "has at most 1048576")


@hostile("matlab", "its image is of")
def a_mask_of_another_size(root):
    write_mat(root / MAT, np.zeros((2000, 2000), dtype=np.uint8))


# --- archives


def tar_of(path: Path, mode: str = "w", **fields: object) -> None:
    with tarfile.open(path, mode) as archive:
        member = tarfile.TarInfo(str(fields.pop("name", "a.txt")))
        content = fields.pop("content", b"evil")
        member.size = len(content) if fields.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
        for name, value in fields.items():
            setattr(member, name, value)
        archive.addfile(member, io.BytesIO(content))


for _name, _fields, _says in (
    ("a path that leads out", {"name": "../outside.txt"}, "leads outside"),
    ("an absolute path", {"name": "/outside.txt"}, "leads outside"),
    ("a symbolic link", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link"),
    ("a link within", {"type": tarfile.SYMTYPE, "linkname": "b.txt"}, "is a link"),
    ("a hard link", {"type": tarfile.LNKTYPE, "linkname": "../outside.txt"}, "is a link"),
    ("a device", {"type": tarfile.CHRTYPE}, "no regular file"),
    ("a fifo", {"type": tarfile.FIFOTYPE}, "no regular file"),
    ("a name that clears the screen", {"name": "a\x1b[2J.txt"}, "cannot be printed"),
):
    register("archive", f"archive: {_name} in tar", _says, lambda root, f=_fields: tar_of(root / "evil.tar", **f))


def zip_of(path: Path, name: str = "a.txt", content: bytes = b"evil", attributes: int = 0) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = attributes << 16
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, content)


for _name, _fields, _says in (
    ("a path that leads out", {"name": "../outside.txt"}, "leads outside"),
    ("a path of windows", {"name": r"..\outside.txt"}, "leads outside"),
    ("a drive", {"name": "C:/outside.txt"}, "leads outside"),
    ("a symbolic link", {"attributes": 0o120777, "content": b"/etc/passwd"}, "is a symbolic link"),
    ("a fifo", {"attributes": 0o010666}, "no regular file"),
    ("a right to left name", {"name": "a\u202etxt"}, "cannot be printed"),
):
    register("archive", f"archive: {_name} in zip", _says, lambda root, f=_fields: zip_of(root / "evil.zip", **f))


@hostile("archive", "would come out of it")
def a_zip_that_grows(root):
    with zipfile.ZipFile(root / "evil.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.txt", bytes(30 * 2**20))


@hostile("archive", "is not unpacked")
def a_zip_whose_members_overlap(root):
    zip_of(root / "evil.zip", content=b"a" * 2**20)
    whole = bytearray((root / "evil.zip").read_bytes())
    at = whole.rindex(b"PK\x01\x02")
    end = whole.rindex(b"PK\x05\x06")
    entry = bytes(whole[at:end])
    directory_ = entry * 80
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 80, 80, len(directory_), at, 0)
    (root / "evil.zip").write_bytes(bytes(whole[:at]) + directory_ + tail)


@hostile("archive", "is not unpacked")
def an_encrypted_zip(root):
    zip_of(root / "evil.zip")
    whole = bytearray((root / "evil.zip").read_bytes())
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(sign) + place] |= 1
    (root / "evil.zip").write_bytes(bytes(whole))


@hostile("archive", "would come out of it")
def a_tgz_that_grows(root):
    with gzip.open(root / "evil.tgz", "wb", compresslevel=6) as file:
        member = tarfile.TarInfo("zeros")
        member.size = 200 * 2**20
        file.write(member.tobuf())
        for _ in range(200):
            file.write(bytes(2**20))
        file.write(bytes(1024))


@hostile("archive", "a header states more than a million bytes")
def a_tgz_with_a_header_of_a_gigabyte(root):
    with gzip.open(root / "evil.tgz", "wb") as file:
        member = tarfile.TarInfo("header")
        member.type, member.size = tarfile.XHDTYPE, 2**30
        file.write(member.tobuf() + bytes(4096))


@hostile("archive", "no regular file")
def a_tar_whose_member_is_sparse(root):
    member = tarfile.TarInfo("holes")
    member.size = 512
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[156:157] = tarfile.GNUTYPE_SPARSE
    head[386:410] = b"00000000000\0" + b"00000001000\0"
    head[483:495] = b"77777777777\0"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    (root / "evil.tar").write_bytes(bytes(head) + bytes(512 + 1024))


@hostile("archive", "ends in none of")
def an_xz_archive(root):
    tar_of(root / "evil.tar.xz", "w:xz")


@hostile("archive", "named pipe")
def a_fifo_for_an_archive(root):
    os.mkfifo(root / "evil.tar")


@hostile("archive", "is not unpacked")
def a_page_for_an_archive(root):
    (root / "evil.tgz").write_text("<!doctype html><title>Sign in</title>")


# --- label maps


def label_map(root: Path, text: str) -> None:
    about = PngImagePlugin.PngInfo()
    about.add_text("segrobust", text)
    Image.fromarray(np.zeros((4, 5), dtype=np.uint8)).save(root / "map.png", pnginfo=about)


for _name, _text, _says in (
    ("deep text", "[" * 100_000, r"nested too deeply|not strict JSON"),
    ("text that is no JSON", "{", "not strict JSON"),
    ("classes that are a number", '{"classes": 5}', "must be a list of strings"),
    ("a class that clears the screen", r'{"classes": ["a\u001b[2J"]}', r"made for the classes a\\x1b"),
):
    register("label map", f"label map: {_name}", _says, lambda root, t=_text: label_map(root, t))


@hostile("label map", "pixels")
def a_map_header_of_60000_squared(root):
    (root / "map.png").write_bytes(png(60_000, 60_000, png_chunk(b"IDAT", b""), color_type=0))


# --- JSON

for _name, _text, _says in (
    ("100000 brackets", "[" * 100_000, "nested too deeply|not strict JSON"),
    ("100000 brackets that close", "[" * 100_000 + "]" * 100_000, "nested too deeply"),
    ("nan", '{"a": NaN}', "NaN is no number"),
    ("infinity", '{"a": -Infinity}', "no number"),
    ("a number that overflows", '{"a": 1e999}', "too large"),
    ("a number of 100000 digits", "9" * 100_000, "100000 characters"),
    ("a key twice", '{"a": 1, "a": 2}', "occurs twice"),
    ("two million values", "[" + "1," * 2_000_000 + "1]", "holds more values than are read"),
    ("five megabytes", "[" + "1," * 2_600_000 + "1]", "has at most 4194304"),
    ("nothing", "", "not strict JSON"),
    ("two values", "1 2", "not strict JSON"),
):
    register("json", f"json: {_name}", _says, lambda root, t=_text: (root / "a.json").write_text(t) and None)


@hostile("json", "not text in UTF-8")
def bytes_for_json(root):
    (root / "a.json").write_bytes(b"\xff\xfe{")


@hostile("json", "named pipe")
def a_fifo_for_json(root):
    os.mkfifo(root / "a.json")
