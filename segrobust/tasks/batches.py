"""Batches of any loader in the form that tasks work with, and what is wrong with them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from segrobust.inputs import as_class_indices, split_sample

_BATCH_SHIFT = 16
"""Bits of a sample id for the position in the batch, where the loader gives no ids."""


def as_batch(batch: Any, ids_from: int) -> dict[str, Tensor]:
    """Gives `image`, `mask` and `sample_id` of a batch, `perturbable_mask` if it has one; a complete one as it is.

    Args:
        batch: a mapping or a tuple, whose entries `segrobust.inputs` finds.
        ids_from: number of the batch among those of all processes; samples without ids are numbered by it.

    Raises:
        TypeError: no images or masks are found, or they are of another type; the message names the entry and the fix.
        ValueError: images or masks of another shape.
    """
    if isinstance(batch, dict) and _is_complete(batch):
        return batch
    images, masks = split_sample(batch, "batches of the loader")
    images = _images(images)
    labels = as_class_indices(masks, "the masks of a batch", 3)
    if labels.shape != (len(images), *images.shape[2:]):
        last = labels.shape == images.shape[:3]
        fix = ": permute the images by (0, 3, 1, 2)" if last else ""
        raise ValueError(
            f"a batch of the loader must have images (B, C, H, W) and masks (B, H, W), got {tuple(images.shape)} and "
            f"{tuple(labels.shape)}{fix}"
        )
    found = {"image": images, "mask": labels, "sample_id": _ids(batch, labels, ids_from)}
    writable = batch.get("perturbable_mask") if isinstance(batch, Mapping) else None
    return found if writable is None else found | {"perturbable_mask": writable}


def check_first(batch: dict[str, Tensor], where: str) -> None:
    """Refuses images outside [0, 1], in the first batch of a stage; it synchronises.

    Raises:
        ValueError: the message names the range, and what to do.
    """
    low, high = (float(extreme) for extreme in batch["image"].aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images of the first {where} batch must lie in [0, 1], got [{low:.4g}, {high:.4g}]: leave the "
            "normalisation out of the data set, and wrap the network in segrobust.networks.Normalized(network, mean, "
            "std); divide images of 0..255 by 255"
        )


def check_labels(labels: Tensor, num_classes: int, ignore_index: int) -> None:
    """Refuses labels that are neither a class nor void; it synchronises.

    Raises:
        ValueError: the message names the values.
    """
    foreign = labels[((labels < 0) | (labels >= num_classes)) & (labels != ignore_index)]
    if foreign.numel():
        values = ", ".join(map(str, torch.unique(foreign)[:8].tolist()))
        raise ValueError(
            f"masks hold the labels {values}, which are neither a class nor void: allowed are 0..{num_classes - 1} "
            f"(the network's {num_classes} classes) and ignore_index={ignore_index}; map them in the data set, or set "
            "ignore_index of the task"
        )


def _is_complete(batch: Mapping[Any, Any]) -> bool:
    """Whether a batch is one of `segrobust.data`."""
    image, mask, ids = (batch.get(name) for name in ("image", "mask", "sample_id"))
    return (
        isinstance(image, Tensor)
        and isinstance(mask, Tensor)
        and isinstance(ids, Tensor)
        and image.is_floating_point()
        and mask.dtype == torch.int64
        and image.ndim == 4
        and mask.shape == (len(image), *image.shape[2:])
    )


def _images(images: object) -> Tensor:
    if not isinstance(images, Tensor):
        raise TypeError(
            f"the images of a batch must be a tensor (B, C, H, W) in [0, 1], got {type(images).__name__}: let the data "
            "set give tensors of one size (segrobust.data.pad_collate pads others)"
        )
    if images.dtype == torch.uint8:
        images = images.float() / 255
    if images.ndim != 4 or not images.is_floating_point():
        raise TypeError(
            f"the images of a batch must be floating point (B, C, H, W) in [0, 1], got {images.dtype} "
            f"{tuple(images.shape)}; if these are the masks, return (image, mask) in this order"
        )
    return images


def _ids(batch: Any, labels: Tensor, ids_from: int) -> Tensor:
    """The ids of a batch: its own if they are integers, else numbers that no other batch has."""
    given = batch.get("sample_id") if isinstance(batch, Mapping) else None
    if isinstance(given, Tensor) and not given.is_floating_point() and given.shape == (len(labels),):
        return given.long()
    return torch.arange(len(labels), device=labels.device) + (ids_from << _BATCH_SHIFT)
