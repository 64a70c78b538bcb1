"""Pixel losses, which fixed-budget attacks maximise. Any attack accepts any of them, and weights nest.

The gradient of a loss over the pixels gives the direction of a step, and its value measures progress in attacks that
adapt their step. Such a value must not drop when a pixel breaks, so a loss that leaves out broken pixels has another
loss to measure progress, its `tracked` loss (Croce, Singh and Hein, ECCV 2024).
"""

import abc
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_choice
from segrobust.attacks.core.criteria import Criterion
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional import pixel_losses
from segrobust.functional.logistic import sigmoid
from segrobust.functional.margins import Sign, select_by_sign


@dataclass(frozen=True)
class Pixels:
    """The pixels of one iterate, as the input of a loss.

    Attributes:
        logits: `(B, K, H, W)`.
        problem: the batch.
        criterion: when a pixel is broken.
        broken: `(B, H, W)` bool, valid pixels that are broken.
        progress: share of the attack's steps so far, in [0, 1).
    """

    logits: Tensor
    problem: Problem
    criterion: Criterion
    broken: Tensor
    progress: float

    @classmethod
    def of(cls, problem: Problem, iterate: Iterate, criterion: Criterion, num_steps: int) -> "Pixels":
        """The pixels of an iterate of an attack that takes `num_steps` steps."""
        return cls(iterate.logits, problem, criterion, iterate.broken, progress=iterate.step / num_steps)

    @property
    def valid(self) -> Tensor:
        """Pixels that count: `(B, H, W)` bool."""
        return self.problem.valid_mask

    @cached_property
    def reference(self) -> Tensor:
        """Class that a pixel is pushed from (untargeted) or to (targeted): `(B, H, W)` int64."""
        return self.criterion.reference(self.problem)

    @cached_property
    def sign(self) -> Sign:
        """1 where the reference class must lose, -1 where it must win; one for all pixels, or `(B, H, W)`."""
        return self.criterion.signs(self.problem)


class PixelLoss(abc.ABC):
    """A loss of every pixel that an attack increases; a frozen, keyword-only dataclass of numbers and other losses."""

    @abc.abstractmethod
    def __call__(self, pixels: Pixels) -> Tensor:
        """The loss of every pixel, void ones included: `(B, H, W)`, a differentiable function of the logits."""

    @property
    def tracked(self) -> "PixelLoss":
        """The loss whose value measures progress: this one, unless it drops when pixels break."""
        return self


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(PixelLoss):
    """`-log p_r`; targeted: minus that. Its slope is largest once the reference class has lost."""

    def __call__(self, pixels: Pixels) -> Tensor:
        """See `PixelLoss`."""
        return pixels.sign * pixel_losses.cross_entropy(pixels.logits, pixels.reference)


@dataclass(frozen=True, kw_only=True)
class Margin(PixelLoss):
    """Difference of logits `max_{c != r} z_c - z_r`; targeted: minus that."""

    def __call__(self, pixels: Pixels) -> Tensor:
        """See `PixelLoss`."""
        return -pixels.criterion.margins(pixels.logits, pixels.problem)


@dataclass(frozen=True, kw_only=True)
class DLR(PixelLoss):
    """Minus the signed difference-of-logits ratio; needs 3 classes, targeted 4 (Croce and Hein, ICML 2020)."""

    def __call__(self, pixels: Pixels) -> Tensor:
        """See `PixelLoss`."""
        return -pixels.criterion.ratios(pixels.logits, pixels.problem)


@dataclass(frozen=True, kw_only=True)
class JensenShannon(PixelLoss):
    """Jensen-Shannon divergence to the one-hot reference; its slope fades as p_r goes to 0 (SEA)."""

    def __call__(self, pixels: Pixels) -> Tensor:
        """See `PixelLoss`."""
        return pixels.sign * pixel_losses.jensen_shannon(pixels.logits, pixels.reference)

    @property
    def tracked(self) -> PixelLoss:
        """The cross-entropy."""
        return CrossEntropy()


@dataclass(frozen=True, kw_only=True)
class LogitCosine(PixelLoss):
    """`-z_r / ||z||_2`, the cosine between logits and one-hot reference; targeted: minus that.

    On all pixels it is the loss of PAdam-Cos (Halmosi, Mohos and Jelasity, ECCV 2024), up to a constant; under `Masked`
    it is the masked spherical loss of SEA.
    """

    def __call__(self, pixels: Pixels) -> Tensor:
        """See `PixelLoss`."""
        return -pixels.sign * pixel_losses.cosine_to_reference(pixels.logits, pixels.reference)


@dataclass(frozen=True, kw_only=True)
class Tsallis(PixelLoss):
    """Tsallis loss whose q runs linearly over the attack (TsallisPGD, arXiv 2605.03405).

    Args:
        first_q: q at the first step; at most 1.
        last_q: q where the attack ends; at most 1, which is the cross-entropy.
    """

    first_q: float = -2.0
    last_q: float = 1.0

    def __post_init__(self) -> None:
        for name in ("first_q", "last_q"):
            if not getattr(self, name) <= 1:
                raise ValueError(f"{name} must be at most 1 (cross-entropy), got {getattr(self, name)}")

    def __call__(self, pixels: Pixels) -> Tensor:
        """See `PixelLoss`."""
        q = self.first_q + (self.last_q - self.first_q) * pixels.progress
        return pixels.sign * pixel_losses.tsallis(pixels.logits, pixels.reference, q)

    @property
    def tracked(self) -> PixelLoss:
        """The cross-entropy: values for different q cannot be compared."""
        return CrossEntropy()


@dataclass(frozen=True, kw_only=True)
class Weighted(PixelLoss):
    """A loss times a weight of every pixel, which is held constant in the gradient.

    Args:
        loss: the loss to weight.
    """

    loss: PixelLoss = field(default_factory=CrossEntropy)

    def __post_init__(self) -> None:
        check_loss(self.loss)

    @abc.abstractmethod
    def weights(self, pixels: Pixels) -> Tensor:
        """Weights `(B, H, W)`, at least 0."""

    def __call__(self, pixels: Pixels) -> Tensor:
        """See `PixelLoss`."""
        return self.loss(pixels) * self.weights(pixels)

    @property
    def tracked(self) -> PixelLoss:
        """The tracked loss of the loss inside, without weights."""
        return self.loss.tracked


@dataclass(frozen=True, kw_only=True)
class Masked(Weighted):
    """A loss of the pixels that are not broken yet (SEA: masked cross-entropy, masked spherical).

    Args:
        loss: the loss to mask.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> attack = APGD(num_steps=10, eps=0.1, loss=Masked(loss=CrossEntropy()), criterion=Untargeted(apsr=0.9))
        >>> attack(network, images, labels).success.tolist()
        [True, True]
    """

    def weights(self, pixels: Pixels) -> Tensor:
        """1 where a pixel is unbroken, else 0."""
        return ~pixels.broken


@dataclass(frozen=True, kw_only=True)
class Balanced(Weighted):
    """A loss whose pixels are weighted by the inverse size of their class (SEA, ECCV 2024, for mIoU).

    Args:
        loss: the loss to weight; SEA's is the masked cross-entropy.
        class_pixels: number, or share, of training pixels of each class. None for the valid pixels of the attacked
            image, so that its classes have equal weight.
    """

    loss: PixelLoss = field(default_factory=Masked)
    class_pixels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_pixels is not None and not all(number > 0 for number in self.class_pixels):
            raise ValueError(
                f"class_pixels must be positive, got {self.class_pixels}; use 1 for a class without pixels"
            )

    def weights(self, pixels: Pixels) -> Tensor:
        """Mean size of the classes over the size of the pixel's class."""
        num_classes = pixels.logits.shape[1]
        reference = pixels.reference.flatten(1)
        if self.class_pixels is None:
            counts = torch.zeros_like(pixels.logits[:, :, 0, 0])
            counts = counts.scatter_add_(1, reference, pixels.valid.flatten(1).to(counts.dtype))
        elif len(self.class_pixels) == num_classes:
            counts = pixels.logits.new_tensor(self.class_pixels).expand(len(reference), -1)
        else:
            raise ValueError(
                f"class_pixels must hold one number for each of the network's {num_classes} classes, "
                f"got {len(self.class_pixels)}"
            )
        mean = counts.sum(1, keepdim=True) / (counts > 0).sum(1, keepdim=True)
        return (mean / counts.clamp_min(1e-30)).gather(1, reference).view_as(pixels.broken)


@dataclass(frozen=True, kw_only=True)
class SegPGDLoss(Weighted):
    """A loss with weight `1 - t / 2` for unbroken and `t / 2` for broken pixels, t the progress (Gu et al., ECCV 2022).

    Args:
        loss: the loss to weight; the paper's is the cross-entropy.
    """

    def weights(self, pixels: Pixels) -> Tensor:
        """Lambda of the paper on broken pixels, one minus it on the others."""
        share = pixels.progress / 2
        return torch.where(pixels.broken, share, 1 - share)


Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class CosPGDLoss(Weighted):
    """A loss weighted by the cosine between prediction and one-hot reference (Agnihotri, Jung and Keuper, ICML 2024).

    `cos(a(z), e_r)`, targeted one minus that, with `a` the activation. The released code holds it constant too.

    Args:
        loss: the loss to weight; the paper's is the cross-entropy.
        activation: `"softmax"`, or `"sigmoid"` as in the reimplementation behind SEA's tables.
    """

    activation: Activation = "softmax"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("activation", self.activation, get_args(Activation))

    def weights(self, pixels: Pixels) -> Tensor:
        """The cosine."""
        logits = pixels.logits.detach()
        scores = logits.softmax(1) if self.activation == "softmax" else sigmoid(logits)
        cosine = pixel_losses.cosine_to_reference(scores, pixels.reference)
        return select_by_sign(pixels.sign, cosine, 1 - cosine)


def check_loss(loss: object) -> None:
    """Raises TypeError unless a field is a pixel loss."""
    if not isinstance(loss, PixelLoss):
        raise TypeError(f"loss must be a pixel loss, such as CrossEntropy() or Masked(loss=Margin()), got {loss!r}")
