"""One batch under attack: the inputs, which never change during the attack."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self, TypedDict, Unpack

import torch
from torch import Tensor

from segrobust.functional.norms import NormName
from segrobust.inputs import as_class_indices
from segrobust.label_space import check_ignore_index


class BatchInputs(TypedDict, total=False):
    """The keyword arguments of a call besides images and labels; None counts as omitted.

    Attributes:
        valid_mask: `(B, H, W)` bool, pixels that count besides those whose label is not `ignore_index`.
        ignore_index: label of void pixels, which are ignored; 255 by default.
        targets: `(B, H, W)` int64 for a `Targeted` criterion; pixels with the value `ignore_index` have no target and
            are ignored.
        perturbable_mask: `(B, H, W)` or `(B, C, H, W)` bool, where the image may be perturbed; everywhere by default.
        start: `(B, C, H, W)` perturbation to start from; clipped to the box.
        eps: radius of a fixed-budget attack, one number or `(B,)`, image units; replaces the attack's field. For
            `LagrangianFMN`, the initial radius.
        sample_ids: `(B,)` integers that, with the attack's seed, determine all random numbers of an image; by default
            its position in the batch. The same image at another position then gets another random start: pass ids, such
            as positions in the data set, for results that do not depend on the batch.
        keep_mask: `(B, H, W)` bool for a `Localized` criterion: pixels that must keep the class in `targets`, or
            without targets their label. All other valid pixels are attacked.
    """

    valid_mask: Tensor | None
    ignore_index: int
    targets: Tensor | None
    perturbable_mask: Tensor | None
    start: Tensor | None
    eps: float | Tensor | None
    sample_ids: Sequence[int] | Tensor | None
    keep_mask: Tensor | None


@dataclass(frozen=True)
class Problem:
    """One batch under attack.

    Attributes:
        images: `(B, C, H, W)` in [0, 1], float32 or float64.
        labels: `(B, H, W)` int64, the ground truth; 0 where void.
        targets: `(B, H, W)` int64, the target classes; 0 where void. None for untargeted attacks.
        valid_mask: `(B, H, W)` bool, pixels that count, those to attack and those to keep.
        lower: `(B, C, H, W)` lower bounds of delta: `-images`; 0 where the adversary may not write.
        upper: `(B, C, H, W)` upper bounds of delta: `1 - images`; 0 where the adversary may not write.
        sample_ids: `(B,)` int64 on CPU; with the attack's seed, they determine the random numbers of each image.
        eps: `(B,)` radius of this call, or None. Attacks read their radius here only.
        start: `(B, C, H, W)` perturbation to start from, or None.
        stop_on_success: whether an image leaves the attack at its first success (set by searches over eps).
        keep_mask: `(B, H, W)` bool, valid pixels that must keep a class: that in `targets`, or their label where there
            are no targets. None for criteria that are not localised.
        ignore_index: label that void pixels had.
    """

    images: Tensor
    labels: Tensor
    targets: Tensor | None
    valid_mask: Tensor
    lower: Tensor
    upper: Tensor
    sample_ids: Tensor
    eps: Tensor | None = None
    start: Tensor | None = None
    stop_on_success: bool = False
    keep_mask: Tensor | None = None
    ignore_index: int = 255

    @cached_property
    def num_valid(self) -> Tensor:
        """Number of valid pixels of each image: `(B,)` int64."""
        return self.valid_mask.sum((1, 2))

    @property
    def start_or_zero(self) -> Tensor:
        """The perturbation to start from, zero if the call gives none: `(B, C, H, W)`."""
        return torch.zeros_like(self.images) if self.start is None else self.start

    @property
    def batch_size(self) -> int:
        """Number of images B."""
        return self.images.shape[0]

    def select(self, rows: Tensor) -> Self:
        """The problem of some of the images; `rows` are int64 indices."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        picked: dict[str, Any] = {k: v[rows.to(v.device)] for k, v in tensors.items() if isinstance(v, Tensor)}
        return replace(self, **picked)

    @property
    def required_keep_mask(self) -> Tensor:
        """Pixels that must keep their class: `(B, H, W)` bool.

        Raises:
            ValueError: the call passed no `keep_mask`.
        """
        if self.keep_mask is None:
            raise ValueError("criterion Localized needs pixels to keep: pass keep_mask=(B, H, W) bool to the attack")
        return self.keep_mask

    def required_eps(self, attack: str) -> Tensor:
        """Radii `(B,)` of this call.

        Raises:
            ValueError: neither the call nor the attack gave one.
        """
        if self.eps is None:
            raise ValueError(f"{attack} needs a radius: set its field eps, or pass eps= to the call (8/255 = 0.03137)")
        return self.eps


def make_problem(images: Tensor, labels: Tensor, *, norm: NormName, **inputs: Unpack[BatchInputs]) -> Problem:
    """Checks the arguments of an attack, and detaches them from inference mode and from any graph.

    Args:
        images: `(B, C, H, W)` in [0, 1].
        labels: `(B, H, W)` int64 ground truth.
        norm: in which `eps` is measured.
        **inputs: see `BatchInputs`.

    Raises:
        TypeError: a tensor of the wrong type, or an unknown input.
        ValueError: a wrong shape or a value outside its range; the message names it and says how to fix it.
    """
    known = BatchInputs.__annotations__
    if unknown := inputs.keys() - known.keys():
        raise TypeError(f"a call takes no {', '.join(sorted(unknown))}; it takes {', '.join(known)}")
    ignore_index, valid_mask, targets = inputs.get("ignore_index", 255), inputs.get("valid_mask"), inputs.get("targets")
    perturbable_mask, keep_mask = inputs.get("perturbable_mask"), inputs.get("keep_mask")
    start, eps, sample_ids = inputs.get("start"), inputs.get("eps"), inputs.get("sample_ids")
    check_images(images)
    labels = _class_map("labels", labels, images)
    targets = None if targets is None else _class_map("targets", targets, images)
    _check_devices(
        images,
        labels=labels,
        valid_mask=valid_mask,
        targets=targets,
        perturbable_mask=perturbable_mask,
        keep_mask=keep_mask,
    )
    expected = (images.shape[0], *images.shape[2:])
    valid = (labels != ignore_index).clone()
    if valid_mask is not None:
        _check_pixels("valid_mask", valid_mask, expected)
        valid &= valid_mask
    if targets is not None:
        valid &= targets != ignore_index
    if keep_mask is not None:
        _check_pixels("keep_mask", keep_mask, expected)
        valid &= (
            (valid & ~keep_mask).flatten(1).any(1)[:, None, None]
        )  # nothing to attack: treated as an image without valid pixels
        keep_mask = keep_mask & valid
    if targets is not None:
        targets = targets.masked_fill(~valid, 0)
    images = images.detach().clone()
    lower, upper = -images, 1 - images
    if perturbable_mask is not None:
        locked = ~_perturbable_pixels(perturbable_mask, images)
        lower, upper = lower.masked_fill(locked, 0), upper.masked_fill(locked, 0)
    if start is not None:
        if start.shape != images.shape:
            raise ValueError(f"start must be a perturbation {tuple(images.shape)}, got {tuple(start.shape)}")
        start = start.detach().to(images).clamp(lower, upper)
    return Problem(
        images=images,
        labels=labels.masked_fill(~valid, 0),
        targets=targets,
        valid_mask=valid,
        lower=lower,
        upper=upper,
        sample_ids=_make_sample_ids(sample_ids, images.shape[0]),
        eps=None if eps is None else make_eps(eps, images, norm),
        start=start,
        keep_mask=keep_mask,
        ignore_index=ignore_index,
    )


def check_images(images: Tensor) -> None:
    """Raises unless `images` is a float32 or float64 batch `(B, C, H, W)` in [0, 1]."""
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images must be a tensor (B, C, H, W) in [0, 1], got {type(images).__name__}: write "
            "torch.as_tensor(images), with .permute(0, 3, 1, 2) where the channels are last, and 8 bits divided by 255"
        )
    if images.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"images must be float32 (or float64) in [0, 1], got {images.dtype}; "
            "convert by images.float(), and divide 8-bit images by 255"
        )
    if images.dim() != 4:
        fix = ": write images[None] and labels[None] for a single image" if images.dim() == 3 else ""
        raise ValueError(f"images must be a batch (B, C, H, W), got shape {tuple(images.shape)}{fix}")
    if images.numel() == 0:
        raise ValueError(f"images must not be empty, got shape {tuple(images.shape)}")
    low, high = images.amin().item(), images.amax().item()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images must lie in [0, 1], got [{low:.4g}, {high:.4g}]; normalise inside the network "
            "(segrobust.networks.Normalized) and not in the data set, or undo it there, such as by "
            "image=lambda sample: sample[0] * std + mean in evaluations and callbacks; divide 8-bit images by 255"
        )


def check_eps(eps: float, norm: NormName) -> None:
    """Raises unless `eps` is positive, finite, and at most 1 for l_inf."""
    if not 0 < eps < float("inf"):
        raise ValueError(f"eps must be positive and finite, got {eps}")
    if norm == "linf" and eps > 1:
        raise ValueError(f"eps is in image units [0, 1], got {eps:g}; did you mean {eps:g}/255 = {eps / 255:.5f}?")


def make_eps(eps: float | Tensor, images: Tensor, norm: NormName) -> Tensor:
    """Radii `(B,)` from one number or one per image, checked."""
    radii = torch.as_tensor(eps, dtype=images.dtype, device=images.device)
    if radii.dim() > 1 or (radii.dim() == 1 and len(radii) != images.shape[0]):
        raise ValueError(f"eps must be one number or one per image ({images.shape[0]}), got shape {tuple(radii.shape)}")
    for extreme in (radii.amin().item(), radii.amax().item()):
        check_eps(extreme, norm)
    return radii.expand(images.shape[0]).clone()


def check_classes(problem: Problem, num_classes: int) -> None:
    """Raises unless every valid label and target is a class of the network, and void is none.

    Raises:
        ValueError: the message gives the values and the classes of the network.
    """
    check_ignore_index(problem.ignore_index, num_classes)
    for name, classes in (("labels", problem.labels), ("targets", problem.targets)):
        if classes is None:
            continue
        foreign = classes[problem.valid_mask & ((classes < 0) | (classes >= num_classes))]
        if foreign.numel():
            values = torch.unique(foreign)[:5].tolist()
            raise ValueError(
                f"{name} contain {values}, outside the network's {num_classes} classes 0..{num_classes - 1}; "
                "map them to classes, or exclude void pixels by ignore_index or valid_mask"
            )


def _check_devices(images: Tensor, **given: Tensor | None) -> None:
    for name, value in given.items():
        if value is not None and value.device != images.device:
            raise ValueError(
                f"{name} must be where the images are, on {images.device}, got {value.device}; "
                f"use {name}.to(images.device)"
            )


def _class_map(name: str, value: Tensor, images: Tensor) -> Tensor:
    """Class indices `(B, H, W)` int64 in any of the forms that `as_class_indices` takes."""
    if not isinstance(value, Tensor):
        fix = f"torch.as_tensor({name}).to(images.device)"
        raise TypeError(f"{name} must be a tensor of class indices (B, H, W), got {type(value).__name__}: write {fix}")
    expected = (images.shape[0], *images.shape[2:])
    if value.shape == expected[1:]:
        raise ValueError(f"{name} must have the shape {expected}, got {tuple(value.shape)}: write {name}[None]")
    indices = as_class_indices(value, name, 3)
    if indices.shape == images.shape[:3]:
        raise ValueError(
            f"images must be (B, C, H, W), got {tuple(images.shape)} with labels {tuple(value.shape)}: the channels "
            "seem to be last; write images.permute(0, 3, 1, 2)"
        )
    if indices.shape != expected:
        raise ValueError(f"{name} must have shape {expected} to match the images, got {tuple(value.shape)}")
    return indices


def _check_pixels(name: str, value: Tensor, expected: tuple[int, ...]) -> None:
    if value.dtype != torch.bool or value.shape != expected:
        raise ValueError(f"{name} must be bool {expected}, got {value.dtype} {tuple(value.shape)}")


def _perturbable_pixels(perturbable_mask: Tensor, images: Tensor) -> Tensor:
    """The mask of values that the adversary may write, broadcast to `(B, C, H, W)`."""
    if perturbable_mask.dtype != torch.bool:
        raise TypeError(f"perturbable_mask must be bool, got {perturbable_mask.dtype}")
    if perturbable_mask.dim() == 3:
        perturbable_mask = perturbable_mask[:, None]
    try:
        return perturbable_mask.expand(images.shape)
    except RuntimeError:
        raise ValueError(
            f"perturbable_mask must be (B, H, W) or broadcast to {tuple(images.shape)}, "
            f"got {tuple(perturbable_mask.shape)}"
        ) from None


def _make_sample_ids(sample_ids: Sequence[int] | Tensor | None, batch_size: int) -> Tensor:
    if sample_ids is None:
        return torch.arange(batch_size, device="cpu")
    ids = torch.as_tensor(sample_ids, dtype=torch.int64, device="cpu")
    if ids.shape != (batch_size,):
        raise ValueError(f"sample_ids must be one integer per image ({batch_size}), got shape {tuple(ids.shape)}")
    return ids
