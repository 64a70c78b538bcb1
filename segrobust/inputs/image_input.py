"""Images in any of the usual forms as floating-point tensors."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segrobust.inputs.arrays import is_picture, kind_of, to_tensor

_MODES = ("L", "RGB")


def as_image(value: Any, size: tuple[int, ...], name: str = "the image") -> Tensor:
    """Gives one image as a floating-point tensor `(C, H, W)`; 8 bits are divided by 255.

    Args:
        value: a tensor, an array of NumPy or a picture of PIL: floating point in [0, 1], or uint8; `(C, H, W)`,
            `(H, W, C)` or `(H, W)`.
        size: height and width of the mask, which show where the channels are.
        name: what it is called in messages.

    Raises:
        TypeError: other numbers, whose range is not known, or no image.
        ValueError: a shape that does not fit the mask.

    Examples:
        >>> as_image(np.full((4, 5, 3), 255, np.uint8), (4, 5)).shape
        torch.Size([3, 4, 5])
    """
    if is_picture(value) and value.mode not in _MODES:
        deep = value.mode[0] in "IF"
        fix = "np.asarray(image, np.float32) / 65535, or over another range" if deep else 'image.convert("RGB")'
        raise TypeError(f"{name} must be grey or RGB of 8 bits, got {kind_of(value)}; write {fix}")
    if not is_picture(value) and not isinstance(value, Tensor | np.ndarray):
        raise TypeError(f"{name} must be a floating-point tensor in [0, 1], got {kind_of(value)}{_fix(value)}")
    image = to_tensor(value, name)
    if image.dtype == torch.uint8:
        image = image.float() / 255
    if image.dtype == torch.bool:
        raise TypeError(f"{name} must be floating point in [0, 1] or of 8 bits, got {kind_of(value)}: pass its float()")
    if not image.is_floating_point():
        is_byte = image.element_size() > 2 and image.numel() and image.min() >= 0 and image.max() <= 255
        top = 255 if is_byte else 65535
        raise TypeError(
            f"{name} must be floating point in [0, 1] or of 8 bits, got {kind_of(value)}: divide it by its range, such "
            f"as image / {top}; if this is the mask, return (image, mask) in this order"
        )
    return _channels_first(image, size, name)


def _fix(value: object) -> str:
    """What to write in place of something that holds an image."""
    if isinstance(value, str | PurePath):
        return ": read the file, such as by PIL.Image.open; segrobust.data.Folder reads folders of files"
    if isinstance(value, bytes | bytearray):
        return ": decode it, such as by PIL.Image.open(io.BytesIO(value))"
    if isinstance(value, Mapping) and {"bytes", "path"} <= value.keys():
        return ': decode the column, such as by dataset.cast_column("image", datasets.Image())'
    if isinstance(value, Mapping):
        return ": name the image by a function of the sample, such as image=lambda sample: sample[0]['image']"
    return ": write np.asarray(image, np.uint8), or divide it by its range" if isinstance(value, list | tuple) else ""


def _channels_first(image: Tensor, size: tuple[int, ...], name: str) -> Tensor:
    shape = tuple(image.shape)
    if shape == size:
        return image[None]
    if image.ndim == 3 and shape[1:] == size:
        return image
    if image.ndim == 3 and shape[:2] == size:
        return image.permute(2, 0, 1).contiguous()
    raise ValueError(
        f"{name} and its mask do not fit: expected an image (C, H, W) and a mask (H, W), got {shape} and {size}"
    )
