"""Mask files: header checks before any decoding, and reading; sizes of images and masks."""

from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from PIL import Image

from segrobust.data.segmentation_dataset import ImageArray, Labels, Pixels
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.pictures import opened_picture

Size: TypeAlias = tuple[int, int]
MaskMode: TypeAlias = Literal["L", "P", "RGB", "I;16"]

MASK_SUFFIXES: Final = frozenset({".png"})
INDEX_MODES: Final[frozenset[MaskMode]] = frozenset({"L", "P"})
WIDE_INDEX_MODES: Final[frozenset[MaskMode]] = INDEX_MODES | {"I;16"}
"""Of label spaces that have labels above 255."""
COLOR_MODES: Final[frozenset[MaskMode]] = frozenset({"RGB"})

_GREY_STEPS: Final = {"L;2": 85, "L;4": 17}
"""By what Pillow multiplies greys of 2 and 4 bits, so that they fill the range of 8 bits."""


def mask_size(path: Path, modes: frozenset[MaskMode] = INDEX_MODES) -> Size:
    """`(H, W)` of a mask by its header; nothing is decoded.

    Raises:
        DataFault: the header cannot be read, states too many pixels, or another mode.
    """
    with opened_picture(path) as header:
        _check_mask_mode(header, path, modes)
        return header.size[1], header.size[0]


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


def resize_image(image: ImageArray, size: Size | None) -> ImageArray:
    """Resizes `(H, W, C)` to `size`, bilinear with antialiasing; unchanged when None.

    Args:
        image: uint8, or float32 in [0, 1]; the result is of the same type.
        size: `(H, W)`.
    """
    if size is None or image.shape[:2] == tuple(size):
        return image
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return _resized(image, size)
    channels = [_resized(np.ascontiguousarray(image[..., channel]), size) for channel in range(image.shape[2])]
    stacked: ImageArray = np.stack(channels, axis=-1)
    return stacked if image.dtype == np.uint8 else stacked.clip(0, 1)  # float32 weights add up to 1 but for rounding


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


def _resized(image: ImageArray, size: Size) -> ImageArray:
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR), dtype=image.dtype)


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
