"""Image files of a data set: what they hold by their headers, and their pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageFile

from segrobust.data.files.image_settings import ImageSettings
from segrobust.data.files.images import Size, resize_image
from segrobust.data.segmentation_dataset import ImageArray
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.measurements import (
    ARRAYS,
    MEASUREMENT_SUFFIXES,
    check_pages,
    check_tiff_pages,
    png_depth,
    read_measurements,
    stored_form,
)
from segrobust.untrusted.pictures import FORMATS, opened_picture
from segrobust.untrusted.tiff_header import read_tiff_header

IMAGE_SUFFIXES: Final = MEASUREMENT_SUFFIXES

_ORIENTATION_TAG: Final = 0x0112
_EXIF_SIZES: Final = {"exif": 2**16, "Raw profile type exif": 2**18}
"""Bytes and hexadecimal digits of EXIF that are read, by the key of Pillow; a JPEG holds no more, and each of its tags
may stand for all of it."""

_PICTURES: Final = ImageSettings()


@dataclass(frozen=True, kw_only=True)
class ImageForm:
    """What an image is, by its header.

    Attributes:
        size: `(H, W)`.
        channels: that it is read with.
        dtype: of the stored values.
    """

    size: Size
    channels: int
    dtype: str


def image_form(path: Path, settings: ImageSettings = _PICTURES, mask_size: Size | None = None) -> ImageForm:
    """What an image is, by its header; nothing is decoded.

    Args:
        path: of the image.
        settings: how it is read.
        mask_size: `(H, W)` of its mask, which shows where an array has its channels.

    Raises:
        DataFault: the header cannot be read, states too much, or values that would be changed or left out.
    """
    if settings.value_range is None and not _is_stored(path):
        with opened_picture(path) as header:
            _check_picture(header, path)
            return ImageForm(size=(header.height, header.width), channels=3, dtype="uint8")
    form = stored_form(path)
    if settings.value_range is None and form.dtype != "uint8":
        raise _needs_range(path, form.dtype)
    try:
        height, width, channels = form.arranged(mask_size)
        settings.check_channels(channels)
    except ValueError as error:
        raise DataFault(f"{path}: {error}", kind="mode") from error
    return ImageForm(size=(height, width), channels=channels, dtype=form.dtype)


def is_turned(path: Path) -> bool:
    """Whether an image asks viewers to turn or mirror it (EXIF orientation); it is read as it is stored.

    Raises:
        DataFault: the header cannot be read.
    """
    if path.suffix.lower() == ARRAYS:
        return False
    if _is_tiff(path):
        return read_tiff_header(path).orientation != 1
    with opened_picture(path) as header:
        for key in _EXIF_SIZES.keys() & header.info.keys():
            header.info[key] = header.info[key][: _EXIF_SIZES[key]]
        return bool(header.getexif().get(_ORIENTATION_TAG, 1) != 1)


def read_image(
    path: Path, size: Size | None = None, settings: ImageSettings = _PICTURES, mask_size: Size | None = None
) -> ImageArray:
    """Decodes an image.

    Args:
        path: of the image.
        size: `(H, W)` to resize to, bilinear with antialiasing; the file's own size when None.
        settings: how it is read.
        mask_size: see `image_form`.

    Returns:
        Without a range uint8: pictures as RGB, `(H, W, 3)`, where grey and palette images become RGB and an alpha
        channel that is opaque everywhere is left out; arrays, and TIFFs of other channels, as they are stored. With a
        range float32 in [0, 1], `(H, W, C)`.

    Raises:
        DataFault: the file cannot be decoded, is too large, or holds values that would be changed or left out, or that
            lie outside the range.
    """
    if settings.value_range is None and not _is_stored(path):
        with opened_picture(path) as image:
            _check_picture(image, path)
            return resize_image(np.array(_in_colors(image, path), dtype=np.uint8), size)
    values = read_measurements(path, mask_size)
    if settings.value_range is None:
        if values.dtype != np.uint8:
            raise _needs_range(path, str(values.dtype))
        return resize_image(values, size)
    if values.dtype.kind == "f" and np.isnan(values).any():
        numbers, total = np.isnan(values).sum((0, 1)), values[..., 0].size
        channel = int(numbers.argmax())
        raise DataFault(
            f"{path}: channel {channel} holds NaN at {numbers[channel]} of {total} pixels, which networks do not "
            f"take: save the file with a number of the range there, and label these pixels void in the mask",
            kind="range",
        )
    try:
        return resize_image(settings.value_range.scaled(values, clip=settings.clip), size)
    except ValueError as error:
        raise DataFault(
            f"{path}: {error}. Correct `range` in classes.yaml, or move such values to its limits by `clip: true`",
            kind="range",
        ) from error


def _is_tiff(path: Path) -> bool:
    return FORMATS.get(path.suffix.lower()) == "TIFF"


def _is_stored(path: Path) -> bool:
    """Whether a file is no picture in grey or colours: an array, or a TIFF of other channels or more than 8 bits."""
    if path.suffix.lower() == ARRAYS:
        return True
    if not _is_tiff(path):
        return False
    header = read_tiff_header(path)
    check_tiff_pages(header, path)
    is_alpha = header.has_alpha and header.num_extra == 1
    return not header.dtype.startswith("uint") or header.bits > 8 or (header.num_extra > 0 and not is_alpha)


def _check_picture(picture: ImageFile.ImageFile, path: Path) -> None:
    check_pages(picture, path)
    is_wide = picture.format == "PNG" and png_depth(picture) > 8
    if is_wide or picture.mode[0] in "IF":
        raise _needs_range(path, "uint16" if is_wide else f"mode {picture.mode}")


def _in_colors(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataFault(
                f"{path} has an alpha channel (transparency) that is not opaque everywhere, which RGB cannot hold: "
                f"save it without, or, if it is a channel of the network, state `range: [0, 255]` in classes.yaml, so "
                f"that all channels are read as they are stored",
                kind="mode",
            )
    return image.convert("RGB")


def _needs_range(path: Path, dtype: str) -> DataFault:
    return DataFault(
        f"{path} has values of {dtype}, more than 8 bits per channel: state the range of the values in classes.yaml, "
        f"such as `range: [0, 10000]`, or [0, 4095] for 12 bits and [0, 65535] for 16; or convert it to 8-bit RGB",
        kind="range",
    )
