"""Images of others as their files store them: any number of channels, up to 64 bits each, no colours and no conversion.

`pictures` decodes to 8 bits, grey or colours. Here values are what a sensor measured, and a file whose values would be
changed, or left out, is refused. Headers are checked before memory is taken.
"""

import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, PngImagePlugin

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.npy_files import npy_form, read_npy
from segrobust.untrusted.pictures import (
    BYTES_PER_PIXEL,
    FORMATS,
    OVERHEAD,
    check_stored,
    opened_picture,
    raw_mode,
    too_large,
)
from segrobust.untrusted.regular_files import read_limited
from segrobust.untrusted.tiff_header import PHOTOMETRIC, TiffHeader, read_tiff_header

Values: TypeAlias = npt.NDArray[Any]
"""`(H, W, C)`, integers or floating point."""

ARRAYS: Final = ".npy"
MEASUREMENT_SUFFIXES: Final = frozenset({*FORMATS, ARRAYS}) - {".gif"}

_YCBCR, _JPEG = 6, 7
_STORED: Final = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}
"""Channels of pictures by Pillow's mode."""


@dataclass(frozen=True, kw_only=True)
class StoredForm:
    """What a file stores, by its header.

    Attributes:
        shape: `(H, W, C)`; of an array that of the file, which may also be `(C, H, W)` or `(H, W)`.
        dtype: of the values, such as "uint16".
        is_array: whether the file holds an array of NumPy.
    """

    shape: tuple[int, ...]
    dtype: str
    is_array: bool = False

    def arranged(self, size: tuple[int, int] | None) -> tuple[int, int, int]:
        """`(H, W, C)`.

        Args:
            size: `(H, W)` of the mask, which shows where an array of three dimensions has its channels; last if None.

        Raises:
            ValueError: of an array; both places fit the mask, or none does.
        """
        if len(self.shape) == 2:
            return self.shape[0], self.shape[1], 1
        last, first = self.shape, (self.shape[1], self.shape[2], self.shape[0])
        if not self.is_array or size is None:
            return last[0], last[1], last[2]
        fitting = [shape for shape in (last, first) if shape[:2] == size]
        if len(fitting) != 1:
            found = "both (H, W, C) and (C, H, W)" if fitting else "neither (H, W, C) nor (C, H, W)"
            raise ValueError(f"the shape {self.shape} is {found} of a mask of {size[0]} x {size[1]} (height x width)")
        height, width, channels = fitting[0]
        return height, width, channels


def stored_form(path: Path) -> StoredForm:
    """The form of an image file by its header; nothing is decoded.

    Args:
        path: a file whose name ends in one of `MEASUREMENT_SUFFIXES`.

    Raises:
        DataFault: a header that is damaged or states too much; several pages; or values that have no channels of
            measurements, such as those of a palette.
    """
    suffix = path.suffix.lower()
    if suffix == ARRAYS:
        return _array_form(*npy_form(path), path)
    if FORMATS.get(suffix) == "TIFF":
        header = read_tiff_header(path)
        _check_tiff(header, path)
        return StoredForm(shape=(*header.size, header.channels), dtype=header.dtype)
    with opened_picture(path) as picture:
        channels, bits = _picture_form(picture, path)
        return StoredForm(shape=(picture.height, picture.width, channels), dtype=f"uint{bits}")


def read_measurements(path: Path, size: tuple[int, int] | None) -> Values:
    """The values of an image file, `(H, W, C)`, as they are stored.

    Args:
        path: a file whose name ends in one of `MEASUREMENT_SUFFIXES`.
        size: `(H, W)` of its mask; see `StoredForm.arranged`.

    Raises:
        DataFault: as `stored_form`, or the file cannot be decoded.
        ImportError: a TIFF, and `rasterio` is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ARRAYS:
        return _read_array(path, size)
    form = stored_form(path)
    if FORMATS.get(suffix) == "TIFF":
        return _read_tiff(path, form)
    if form.dtype == "uint16":
        return _read_wide_png(path, form)
    with opened_picture(path) as picture:
        return np.array(picture, dtype=np.uint8).reshape(form.shape)


def check_pages(picture: ImageFile.ImageFile, path: Path) -> None:
    """Refuses an animation, of which a decoder would show the first picture alone.

    Raises:
        DataFault: a PNG or WEBP of several pictures.
    """
    number = getattr(picture, "n_frames", 1) if picture.format in ("PNG", "WEBP") else 1
    if number > 1:
        raise _several(path, number)


def check_tiff_pages(header: TiffHeader, path: Path) -> None:
    """Refuses a TIFF of several pages, of which a decoder would show the first alone.

    Raises:
        DataFault: it has several, or a mask of valid pixels.
    """
    if header.num_pages > 1:
        raise _several(path, header.num_pages)
    if header.has_mask:
        raise DataFault(
            f"{path} has a mask of valid pixels inside, which is not read; label the other pixels void in its mask "
            f"file, and save the image without it",
            kind="mode",
        )


def _several(path: Path, number: int) -> DataFault:
    return DataFault(
        f"{path} holds {number} pictures (pages), and an image is one. If they are its channels, save them in one page "
        f"or as .npy: np.save(name, [np.asarray(page) for page in PIL.ImageSequence.Iterator(PIL.Image.open(path))]); "
        f"else save each as a file of its own",
        kind="mode",
    )


# --- arrays of NumPy


def _array_form(shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> StoredForm:
    if dtype.kind == "b":
        raise DataFault(f"{path} holds booleans; an image has integers or floating-point numbers", kind="mode")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise DataFault(f"{path} holds an array of the shape {shape}; an image is (H, W, C), (C, H, W) or (H, W)")
    return StoredForm(shape=shape, dtype=dtype.newbyteorder("=").name, is_array=True)


def _read_array(path: Path, size: tuple[int, int] | None) -> Values:
    stored = read_npy(path)
    form = _array_form(stored.shape, stored.dtype, path)
    values = stored.astype(stored.dtype.newbyteorder("="))
    try:
        arranged = form.arranged(size)
    except ValueError as error:
        raise DataFault(f"{path}: {error}", kind="size") from error
    is_first = arranged not in (values.shape, (*values.shape, 1))
    found: Values = values.transpose(1, 2, 0) if is_first else values.reshape(arranged)
    return found


# --- TIFF


def _check_tiff(header: TiffHeader, path: Path) -> None:
    check_tiff_pages(header, path)
    is_jpeg = header.photometric == _YCBCR and header.compression == _JPEG
    if header.photometric not in (1, 2) and not is_jpeg:
        meaning = PHOTOMETRIC.get(header.photometric, str(header.photometric))
        raise DataFault(
            f"{path} is a TIFF of the kind {meaning} (PhotometricInterpretation), whose values are no measurements; "
            f"save it as grey or RGB",
            kind="mode",
        )
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and math.prod(header.size) > most:
        raise too_large(path, f"the image has {math.prod(header.size)} pixels, the limit is {most} pixels.")
    item = -(-header.bits // 8)
    check_stored(path, math.prod(header.size) * header.channels * item, os.stat(path).st_size)
    tile = 0 if header.tile is None else math.prod(header.tile) * header.channels * item
    if most is not None and tile > BYTES_PER_PIXEL * most:
        raise too_large(path, f"its tiles are of {tile} bytes, the limit is {BYTES_PER_PIXEL * most} bytes.")


def _read_tiff(path: Path, form: StoredForm) -> Values:
    """By GDAL's reader of TIFFs alone, from memory, so that it opens no file beside this one."""
    rasterio = _rasterio()
    most = Image.MAX_IMAGE_PIXELS
    content = read_limited(path, 2**62 if most is None else BYTES_PER_PIXEL * most + OVERHEAD, "an image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with (
                rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_NUM_THREADS=1),
                rasterio.MemoryFile(content) as memory,
                memory.open(driver="GTiff") as image,
            ):
                stated = (image.height, image.width, image.count)
                if stated != form.shape:
                    raise DataFault(f"{path} is read as {stated} and states {form.shape}", kind="unreadable")
                values: Values = image.read().transpose(1, 2, 0)
        except (rasterio.errors.RasterioError, ValueError, OSError, MemoryError) as error:
            if isinstance(error, DataFault):
                raise
            raise DataFault(f"{path} cannot be read as an image: {error}", kind="unreadable") from error
    return values


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.errors
    except ImportError as error:
        raise ImportError(
            "TIFFs of other values than 8-bit grey or RGB need rasterio: pip install 'segrobust[tiff]'"
        ) from error
    return rasterio


# --- pictures


def _picture_form(picture: ImageFile.ImageFile, path: Path) -> tuple[int, int]:
    """Channels, and bits of a value."""
    check_pages(picture, path)
    bits = png_depth(picture) if isinstance(picture, PngImagePlugin.PngImageFile) else 8
    is_read = picture.mode in _STORED and bits in (8, 16) and "transparency" not in picture.info
    if not is_read:
        raise DataFault(
            f"{path} has mode {picture.mode}{f' of {bits} bits' if bits != 8 else ''}"
            f"{' and a transparent colour' if 'transparency' in picture.info else ''}, whose values are no "
            f"measurements; images with a range are grey or RGB, with or without alpha, of 8 or 16 bits",
            kind="mode",
        )
    return _STORED[picture.mode], bits


def png_depth(picture: ImageFile.ImageFile) -> int:
    """Bits of a value of an opened PNG, by the name of what its decoder reads: `RGB;16B`, `L;4`."""
    return int("".join(filter(str.isdigit, raw_mode(picture).partition(";")[2])) or 8)


def _read_wide_png(path: Path, form: StoredForm) -> Values:
    """A PNG of 16 bits, by OpenCV: Pillow reads the upper half of colours."""
    import cv2

    content = np.frombuffer(read_limited(path, 2**31, "an image"), dtype=np.uint8)
    try:
        values: Values | None = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataFault(f"{path} cannot be read as an image: {error}", kind="unreadable") from error
    if values is None or values.dtype != np.uint16:
        raise DataFault(f"{path} cannot be read as an image of 16 bits; it is damaged", kind="unreadable")
    values = values.reshape(*values.shape[:2], -1)
    order = {1: [0], 2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[form.shape[2]]  # from blue first; grey is repeated
    if values.shape[:2] != form.shape[:2] or max(order) >= values.shape[2]:
        raise DataFault(f"{path} is read as {values.shape} and states {form.shape}", kind="unreadable")
    return np.ascontiguousarray(values[..., order])
