"""One forward pass over perturbed images, and how far its counts may differ on another machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from segrobust.attacks import Untargeted
from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.evaluation.dataset import LoadedSample
from segrobust.evaluation.forward import batch_problem, device_of
from segrobust.functional.modes import attackable
from segrobust.functional.norms import NormName, norm
from segrobust.metrics import confusion_counts

TOLERANCE: Final = 2.0**-16
"""Of the largest absolute logit of an image: a difference of logits below it may have another sign on another machine.

Number of threads, batch size and version of torch change logits in float32 by less than a tenth of it."""

MOST_CLOSE: Final = 0.02
"""Largest share of valid pixels whose decision may be so close; a witness with more says too little elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What one forward pass says of one perturbed image.

    Attributes:
        norm: of the perturbation, image units, measured in float64.
        num_valid: valid pixels.
        slack: broken pixels beyond those that success needs; negative if the image is not broken.
        close: valid pixels whose two largest logits differ by at most the tolerance.
        close_at_least: the same at half of the tolerance.
        close_at_most: the same at twice the tolerance.
        tp: true positives of every class, over valid pixels.
        fp: false positives.
        fn: false negatives.
    """

    norm: float
    num_valid: int
    slack: int
    close: int
    close_at_least: int
    close_at_most: int
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    fn: tuple[int, ...]

    @property
    def is_stable(self) -> bool:
        """Whether few enough decisions are close."""
        return self.close <= MOST_CLOSE * self.num_valid

    @property
    def is_certain(self) -> bool:
        """Whether the image is broken even if every close decision falls the other way."""
        return self.is_stable and self.slack >= self.close


def rejudge(
    network: nn.Module,
    samples: Sequence[LoadedSample],
    perturbed: Sequence[Tensor],
    criterion: Untargeted,
    *,
    norm_name: NormName,
    ignore_index: int,
) -> list[Judged]:
    """Judges perturbed images of one size by one forward pass.

    Args:
        network: maps images to logits, in float32.
        samples: clean images and labels, of one size.
        perturbed: `(C, H, W)` in [0, 1], one per sample.
        criterion: when an image is broken.
        norm_name: in which perturbations are measured.
        ignore_index: label of void pixels.

    Raises:
        ValueError: images outside [0, 1], or labels that do not fit.
        FloatingPointError: the network returned NaN.
    """
    device = device_of(network)
    with attackable(network), torch.no_grad():
        images = torch.stack(list(perturbed)).to(device)
        problem = batch_problem(images, torch.stack([each.mask for each in samples]).to(device), ignore_index)
        logits = NetworkOracle(network, images).logits(torch.zeros_like(images), differentiable=False)
        num_broken = criterion.broken(logits, problem).sum((1, 2))
        needed = problem.num_valid - criterion.num_unbroken_allowed(problem.num_valid)
        counts = confusion_counts(logits.argmax(1), problem.labels, logits.shape[1], problem.valid_mask)
        close = _close(logits, problem.valid_mask)
    exact = [each.double() - sample.image.double() for each, sample in zip(perturbed, samples, strict=True)]
    return [
        Judged(
            norm=float(norm(exact[row][None], norm_name)),
            num_valid=int(problem.num_valid[row]),
            slack=int(num_broken[row] - needed[row]),
            close=int(close[1, row]),
            close_at_least=int(close[0, row]),
            close_at_most=int(close[2, row]),
            tp=tuple(counts.tp[row].tolist()),
            fp=tuple(counts.fp[row].tolist()),
            fn=tuple(counts.fn[row].tolist()),
        )
        for row in range(len(samples))
    ]


def _close(logits: Tensor, valid_mask: Tensor) -> Tensor:
    """Valid pixels whose largest logits differ by at most half, once and twice the tolerance: `(3, B)`."""
    largest = logits.topk(2, dim=1).values
    scale = logits.where(logits.isfinite(), 0).abs().amax((1, 2, 3))
    gaps = (largest[:, 0] - largest[:, 1]) / scale[:, None, None]
    return torch.stack([((gaps <= TOLERANCE * factor) & valid_mask).sum((1, 2)) for factor in (0.5, 1.0, 2.0)])
