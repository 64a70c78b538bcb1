"""Pictures of others: the decoder is chosen by the ending of the name, and the cost of decoding is bounded before it.

Pillow chooses a decoder by the content of a file if it may, and some of its decoders start other programs (Ghostscript
for PostScript). Here a file is read by the decoder of its ending or not at all.
"""

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.picture_parts import has_too_many_parts
from segrobust.untrusted.regular_files import open_regular

FORMATS: Final = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".gif": "GIF",
}
"""Formats that are read, by the ending of the name; each is decoded within this process."""

_FREE: Final = 64 * 2**20
_LARGEST_RATIO: Final = 100
"""Pixels of more than `_FREE` bytes must not take more than this many times the bytes of their file.

Photographs take 5 to 30 times as many; a PNG can reach 1000 times, where all pixels are alike.
"""

_MOST_SCANS: Final = 100
"""Of a JPEG; encoders write 1 to 12. Each takes time for the whole picture, and a scan can be of a few bytes."""

BYTES_PER_PIXEL: Final = 8
"""Of values of any type, of all channels, for as many pixels as a picture may have; fewer pixels may have more."""

OVERHEAD: Final = 2**20
_TILE_TAGS: Final = (322, 323)

_DAMAGED: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    NotImplementedError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on files that are cut or changed."""

_SIGNS: Final = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"GIF8", "GIF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "PDF"),
    (b"\0\0\x01\0", "an icon"),
    (b"8BPS", "Photoshop"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
)


@contextmanager
def opened_picture(path: Path, *, root: Path | None = None) -> Iterator[ImageFile.ImageFile]:
    """Opens a picture lazily, by the decoder of its ending alone.

    Sizes are checked by the header; nothing is decoded until the caller asks for pixels within the context.

    Args:
        path: a regular file whose name ends in a key of `FORMATS`.
        root: a folder from which on no link is followed; None to follow links.

    Raises:
        DataFault: another ending, another format, no regular file, a file that is damaged, or one that would take too
            much memory or time to decode; also from the work within the context.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise DataFault(f"{path} is no picture that is read: allowed are {', '.join(FORMATS)}", kind="unreadable")
    try:
        file = open_regular(path, root=root)
    except OSError as error:
        raise DataFault(f"{path} cannot be read as an image: {error}", kind="unreadable") from error
    with file, _opened(file, path) as picture:
        yield picture


@contextmanager
def opened_content(content: bytes, name: str) -> Iterator[ImageFile.ImageFile]:
    """Opens a picture in memory, as `opened_picture`.

    Args:
        content: of the file.
        name: of the file, whose ending chooses the decoder, and for messages.

    Raises:
        DataFault: as `opened_picture`.
    """
    with BytesIO(content) as file, _opened(file, Path(name)) as picture:
        yield picture


@contextmanager
def _opened(file: BinaryIO, path: Path) -> Iterator[ImageFile.ImageFile]:
    kind = FORMATS[path.suffix.lower()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # a line for each damaged tag
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        head = b""
        try:
            head = file.read(64)
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            _check_cost_before_opening(file, size, path, kind)
            with Image.open(file, formats=(kind,)) as picture:
                _check_cost(size, path, picture)
                yield picture
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise too_large(path, str(error)) from error
        except DataFault:
            raise
        except UnidentifiedImageError as error:
            raise DataFault(_another_format(head, path, kind), kind="unreadable") from error
        except _DAMAGED as error:
            raise DataFault(f"{path} cannot be read as an image: {error}", kind="unreadable") from error


def _check_cost_before_opening(file: BinaryIO, size: int, path: Path, kind: str) -> None:
    """What Pillow would read or reserve while it opens the file."""
    most = Image.MAX_IMAGE_PIXELS
    if most is None:
        return
    if size > 3 * most + OVERHEAD:
        raise too_large(path, f"the file has {size} bytes, more than {most} pixels of three bytes.")
    if has_too_many_parts(file, size, kind):
        raise DataFault(
            f"{path} cannot be read as an image: its {size} bytes are divided into far more parts than an encoder "
            "writes, each of which takes time. Save it anew",
            kind="too large",
        )
    if kind == "WEBP":
        file.seek(0)
        head = file.read(30)
        if head[12:16] == b"VP8X" and len(head) == 30:
            width, height = (1 + int.from_bytes(head[start : start + 3], "little") for start in (24, 27))
            if width * height > most:
                raise too_large(path, f"the image has {width * height} pixels, the limit is {most} pixels.")
    elif kind == "JPEG":
        scans = sum(1 for _ in _scans(file))
        if scans > _MOST_SCANS:
            raise DataFault(
                f"{path} has {scans} scans; a JPEG of at most {_MOST_SCANS} is read, usual are 1 to 12. Save it anew",
                kind="too large",
            )
    file.seek(0)


def _scans(file: BinaryIO) -> Iterator[bytes]:
    """The starts of scans; within the data of a scan these two bytes cannot stand."""
    last = b""
    while chunk := file.read(OVERHEAD):
        yield from (b"\xff\xda",) * (last + chunk).count(b"\xff\xda")
        last = b"\xff" if chunk.endswith(b"\xff") else b""


def _check_cost(size: int, path: Path, picture: Image.Image) -> None:
    """Bytes of the decoded pixels against those of the file, and the tiles of a TIFF."""
    most = Image.MAX_IMAGE_PIXELS
    if most is None:
        return
    decoded = picture.width * picture.height * max(len(picture.getbands()), 2 if picture.mode[0] == "I" else 1)
    check_growth(path, decoded, size)
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        sides = [picture.tag_v2.get(tag, 1) for tag in _TILE_TAGS]
        if not all(isinstance(side, int) and 0 < side <= most for side in sides) or sides[0] * sides[1] > most:
            raise too_large(path, f"its tiles are of {sides[0]} x {sides[1]} pixels, the limit is {most} pixels.")


def check_growth(path: Path, decoded: int, size: int) -> None:
    """Refuses a file that decodes to far more bytes than it has.

    Args:
        path: for the message.
        decoded: bytes of its pixels.
        size: bytes of the file.

    Raises:
        DataFault: it does.
    """
    if decoded > _FREE and decoded > _LARGEST_RATIO * size:
        raise too_large(
            path, f"{decoded} bytes of pixels come out of {size} bytes, more than {_LARGEST_RATIO} times as many."
        )


def check_stored(path: Path, stored: int, size: int) -> None:
    """Refuses values of any type that take too much memory.

    Args:
        path: for the message.
        stored: bytes of all values, at most `BYTES_PER_PIXEL` for each pixel that a picture may have.
        size: bytes of the file.

    Raises:
        DataFault: more bytes than that, or far more than the file has.
    """
    most = Image.MAX_IMAGE_PIXELS
    if most is None:
        return
    limit = BYTES_PER_PIXEL * most
    if max(stored, size - OVERHEAD) > limit:
        raise too_large(path, f"{stored} bytes of values in a file of {size} bytes, the limit is {limit} bytes.")
    check_growth(path, stored, size)


def too_large(path: Path, reason: str) -> DataFault:
    """The fault of a file that is refused for its cost; `reason` ends with a full stop."""
    return DataFault(
        f"{path}: {reason} Cut the image into tiles. Raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file, or set it "
        f"to None for no limit",
        kind="too large",
    )


def raw_mode(picture: Image.Image) -> str:
    """What the decoder of an opened picture is asked to read, such as `RGB;16B` or `L;4`, before it does."""
    if not picture.tile:  # type: ignore[attr-defined]
        return picture.mode
    arguments = picture.tile[0][3]  # type: ignore[attr-defined]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _another_format(head: bytes, path: Path, expected: str) -> str:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        found = "it is empty"
    elif start.startswith((b"<!doctype", b"<html")):
        found = "it holds an HTML page"
    elif start.startswith((b"<?xml", b"<svg")):
        found = "it holds XML or SVG"
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        found = "it holds WEBP"
    else:
        known = next((name for sign, name in _SIGNS if head.startswith(sign)), None)
        found = f"it holds {known}" if known not in (None, expected) else "it is damaged or of another format"
    return (
        f"{path} cannot be read as an image: a file that ends in {path.suffix} must hold {expected}, and {found}. "
        f"Name it by its format, one of {', '.join(FORMATS)}, or convert it"
    )
