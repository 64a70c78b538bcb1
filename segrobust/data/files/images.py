"""Image files: header checks before any decoding, reading, resizing."""

from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from PIL import Image

from segrobust.data.segmentation_dataset import Labels, Pixels
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.pictures import FORMATS, opened_picture

Size: TypeAlias = tuple[int, int]

IMAGE_SUFFIXES: Final = frozenset(FORMATS) - {".gif"}

_ORIENTATION_TAG = 0x0112


def image_size(path: Path) -> Size:
    """`(H, W)` of an image by its header; nothing is decoded.

    Raises:
        DataFault: the header cannot be read, states too many pixels, or more than 8 bits per channel.
    """
    with opened_picture(path) as header:
        if header.mode[0] in "IF":
            raise DataFault(
                f"{path} has mode {header.mode}, more than 8 bits per channel; convert it to 8-bit RGB", kind="mode"
            )
        return header.size[1], header.size[0]


def is_turned(path: Path) -> bool:
    """Whether an image asks viewers to turn or mirror it (EXIF orientation); it is read as it is stored.

    Raises:
        DataFault: the header cannot be read.
    """
    with opened_picture(path) as header:
        return bool(header.getexif().get(_ORIENTATION_TAG, 1) != 1)


def read_image(path: Path, size: Size | None = None) -> Pixels:
    """Decodes an image as RGB, `(H, W, 3)`.

    Args:
        path: a file of 8 bits per channel; grey and palette images become RGB, an alpha channel is dropped.
        size: `(H, W)` to resize to, bilinear with antialiasing; the file's own size when None.

    Raises:
        DataFault: the file cannot be decoded, or is too large.
    """
    with opened_picture(path) as image:
        pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)
    return resize_image(pixels, size)


def resize_image(image: Pixels, size: Size | None) -> Pixels:
    """Resizes `(H, W, 3)` to `size`, bilinear with antialiasing; unchanged when None."""
    if size is None or image.shape[:2] == tuple(size):
        return image
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR), dtype=np.uint8)


def resize_labels(labels: Labels, size: Size | None) -> Labels:
    """Resizes `(H, W)` to `size`, nearest neighbour at pixel centres; unchanged when None."""
    if size is None or labels.shape == tuple(size):
        return labels
    return np.array(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST), dtype=labels.dtype)


def check_size(size: Size | None) -> None:
    """Refuses a size that is not two positive integers.

    Raises:
        ValueError: `size` is not `(H, W)` with both at least 1.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size is (height, width), both at least 1, got {size}")
