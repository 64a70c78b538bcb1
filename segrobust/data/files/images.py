"""Image and mask files: header checks before any decoding, reading, resizing."""

from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from PIL import Image

from segrobust.data.segmentation_dataset import Labels, Pixels
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.pictures import FORMATS, opened_picture

Size: TypeAlias = tuple[int, int]
MaskMode: TypeAlias = Literal["L", "P", "RGB", "I;16"]

IMAGE_SUFFIXES: Final = frozenset(FORMATS)
MASK_SUFFIXES: Final = frozenset({".png"})
INDEX_MODES: Final[frozenset[MaskMode]] = frozenset({"L", "P"})
WIDE_INDEX_MODES: Final[frozenset[MaskMode]] = INDEX_MODES | {"I;16"}
"""Of label spaces that have labels above 255."""
COLOR_MODES: Final[frozenset[MaskMode]] = frozenset({"RGB"})

_ORIENTATION_TAG = 0x0112
_GREY_STEPS: Final = {"L;2": 85, "L;4": 17}
"""By what Pillow multiplies greys of 2 and 4 bits, so that they fill the range of 8 bits."""


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


def mask_size(path: Path, modes: frozenset[MaskMode] = INDEX_MODES) -> Size:
    """`(H, W)` of a mask by its header; nothing is decoded.

    Raises:
        DataFault: the header cannot be read, states too many pixels, or another mode.
    """
    with opened_picture(path) as header:
        _check_mask_mode(header, path, modes)
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


def read_mask(path: Path, modes: frozenset[MaskMode] = INDEX_MODES) -> Labels:
    """Decodes the label indices of a mask, `(H, W)`, as they are stored; a palette is not applied.

    Args:
        path: a PNG of one channel, grey or palette.
        modes: Pillow modes that the mask may have; 16 bits give uint16, others uint8.

    Raises:
        DataFault: the file cannot be decoded, is too large, or is of another mode.
    """
    with opened_picture(path) as mask:
        _check_mask_mode(mask, path, modes)
        step = _GREY_STEPS.get(str(mask.tile[0][3]) if mask.tile else mask.mode, 1)
        stored: Labels = np.array(mask, dtype=np.uint16 if mask.mode == "I;16" else np.uint8)
        stored //= step
        return stored


def read_colors(path: Path) -> Pixels:
    """Decodes a mask whose classes are colours, `(H, W, 3)`.

    Raises:
        DataFault: the file cannot be decoded, is too large, or is not RGB.
    """
    with opened_picture(path) as mask:
        _check_mask_mode(mask, path, COLOR_MODES)
        return np.array(mask, dtype=np.uint8)


def mask_mode(path: Path) -> str:
    """Pillow's mode of a mask, by its header.

    Raises:
        DataFault: the header cannot be read.
    """
    with opened_picture(path) as mask:
        return mask.mode


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


def _check_mask_mode(mask: Image.Image, path: Path, modes: frozenset[MaskMode]) -> None:
    if mask.mode in modes:
        return
    if modes >= INDEX_MODES:
        raise DataFault(
            f"{path} has mode {mask.mode}; a mask is a PNG of one 8-bit channel (mode L or P) whose values are class "
            f"indices. Convert colours or 16-bit ids to indices first; masks of 16 bits are for labels above 255",
            kind="mode",
        )
    raise DataFault(f"{path} has mode {mask.mode}; a mask is an RGB PNG here, one colour per class", kind="mode")
