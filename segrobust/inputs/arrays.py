"""Tensors, arrays of NumPy and pictures of PIL as tensors."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def is_picture(value: object) -> bool:
    """Whether it is a picture of PIL, which this does not import."""
    return hasattr(value, "mode") and hasattr(value, "getbands")


def to_tensor(value: Any, name: str) -> Tensor:
    """The numbers as a tensor; tensors as they are.

    Args:
        value: a tensor, an array or a picture.
        name: what it is called in messages.

    Raises:
        TypeError: an array of something else than numbers, one that hides some of them, or a tensor that is sparse,
            quantised or without values.
    """
    if isinstance(value, Tensor):
        _require_dense(value, name)
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose hidden values are not known: write array.filled(value)")
    array = np.array(value)  # a copy: an array may be read-only, reversed, or of a picture that is closed
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got an array of {array.dtype}")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _require_dense(tensor: Tensor, name: str) -> None:
    if tensor.device.type == "meta":
        raise TypeError(f"{name} is a tensor without values (device meta): load it on a device")
    if tensor.layout != torch.strided or tensor.is_quantized:
        fix = "dequantize()" if tensor.is_quantized else "to_dense()"
        raise TypeError(f"{name} must be a dense tensor of numbers, got {tensor.layout} {tensor.dtype}: write .{fix}")


def kind_of(value: object) -> str:
    """What a value is, for messages: `torch.uint8 (3, 32, 32)`, `an array of uint8 (32, 32, 3)`, `str`."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    if is_picture(value):
        return f"a picture of mode {getattr(value, 'mode', '')}"
    return type(value).__name__
