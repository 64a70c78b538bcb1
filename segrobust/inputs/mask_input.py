"""Masks in any of the usual forms as class indices."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from torch import Tensor

from segrobust.inputs.arrays import is_picture, kind_of, to_tensor

_INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
"""Modes of PIL whose pixels are numbers, not colours."""


def as_class_indices(value: Any, name: str, ndim: int) -> Tensor:
    """Gives class indices as int64, if it is certain which ones are meant.

    Integers and bool are taken as they are, and so are floating-point numbers without fractions. One more dimension, of
    the classes, may be before the height or last: of size 1, or one-hot.

    Args:
        value: a tensor, an array of NumPy or a picture of PIL.
        name: what it is called in messages.
        ndim: dimensions of the result: 2 for the mask `(H, W)` of an image, 3 for those `(B, H, W)` of a batch.

    Returns:
        `(H, W)` or `(B, H, W)` int64, on the device of `value`.

    Raises:
        TypeError: no tensor, array or picture of numbers; or fractions.
        ValueError: another number of dimensions; or not exactly one class for each pixel.

    Examples:
        >>> import torch
        >>> as_class_indices(torch.tensor([[[0.0, 1.0], [2.0, 255.0]]]), "mask", 2)
        tensor([[  0,   1],
                [  2, 255]])
        >>> as_class_indices(np.eye(3, dtype=np.uint8)[None], "mask", 2)  # one-hot, the classes last
        tensor([[0, 1, 2]])
    """
    if is_picture(value) and value.mode not in _INDEX_MODES:
        raise TypeError(
            f"{name} is a picture of mode {value.mode}: colours, not class indices; map its colours to indices, as "
            "segrobust.data.Folder does by the palette of its classes.yaml"
        )
    if not is_picture(value) and not isinstance(value, Tensor | np.ndarray):
        raise TypeError(f"{name} must hold a class index for every pixel, got {kind_of(value)}{_fix(value)}")
    return _without_classes(_whole_numbers(to_tensor(value, name), name), name, ndim)


def _fix(value: object) -> str:
    """What to write in place of something that holds a mask."""
    if isinstance(value, str | PurePath):
        return ": read the file, such as by PIL.Image.open; segrobust.data.Folder reads folders of files"
    if isinstance(value, Mapping):
        return ": name the mask by a function of the sample, such as mask=lambda sample: sample[1]['mask']"
    if isinstance(value, list | tuple) and any(map(_has_pixels, value)):
        return ": name the entries by functions of the sample, such as mask=lambda sample: sample[1][1]"
    return ": write np.asarray(mask)" if isinstance(value, list | tuple) else ""


def _has_pixels(value: object) -> bool:
    return is_picture(value) or (isinstance(value, Tensor | np.ndarray) and value.ndim > 1)


def _whole_numbers(labels: Tensor, name: str) -> Tensor:
    """Labels as int64."""
    if labels.is_complex():
        raise TypeError(f"{name} must hold class indices, got {labels.dtype}")
    if labels.is_floating_point() and not bool((labels == labels.round()).all() & labels.isfinite().all()):
        odd = labels[(labels != labels.round()) | ~labels.isfinite()].flatten()[0].item()
        raise TypeError(
            f"{name} must hold class indices, got {labels.dtype} with fractions, such as {odd:.4g}; resize masks by "
            "nearest neighbour, do not divide them (ToTensor divides by 255), and take the argmax of probabilities"
        )
    return labels.long()


def _without_classes(labels: Tensor, name: str, ndim: int) -> Tensor:
    """Labels without the dimension of the classes, if there is one."""
    if labels.ndim == ndim:
        return labels
    expected = "(H, W)" if ndim == 2 else "(B, H, W)"
    if labels.ndim != ndim + 1:
        raise ValueError(f"{name} must have the shape {expected}, a class for each pixel, got {tuple(labels.shape)}")
    places = (ndim - 2, ndim)
    single = [place for place in places if labels.shape[place] == 1]
    if single:
        return labels.squeeze(single[0])
    one_hot = [place for place in places if _is_one_hot(labels, place)]
    if len(one_hot) != 1:
        raise ValueError(
            f"{name} must have the shape {expected}, got {tuple(labels.shape)}, which is not one-hot (a single 1 for "
            "each pixel, else 0): where classes overlap, choose one of them; map colours to class indices"
        )
    return labels.argmax(one_hot[0])


def _is_one_hot(labels: Tensor, dim: int) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() & (labels.sum(dim) == 1).all())
