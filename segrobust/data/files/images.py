"""Sizes of images and masks, and resizing."""

from typing import TypeAlias

import numpy as np
from PIL import Image

from segrobust.data.segmentation_dataset import ImageArray, Labels

Size: TypeAlias = tuple[int, int]


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
