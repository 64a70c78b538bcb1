"""Adversarial images of an earlier run as inputs of the engine: read from files, measured, and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from segrobust.evaluation.dataset import LoadedSample
from segrobust.evaluation.plan import AttackCall
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.records import ABOVE_EPS, OUTSIDE_BOX
from segrobust.functional.norms import norm

NORM_TOLERANCE: Final = 1e-6
"""Largest difference of two measurements of one norm, relative if the norm is above 1. It allows for noise in
float32, and for images of a float64 network that were stored in float32."""


@dataclass(frozen=True)
class StoredBatch:
    """Adversarial images of a batch.

    Attributes:
        images: `(B, C, H, W)` float32, the bits of the files; values outside [0, 1], which are flagged, are clipped.
        norm: `(B,)` float64, norm of the perturbation in the file, not clipped.
        flags: per image, why it is not allowed: values outside [0, 1], or a norm above the radius of its attack.
    """

    images: Tensor
    norm: Tensor
    flags: tuple[tuple[str, ...], ...]


def read_stored(store: AdversarialStore, call: AttackCall, samples: Sequence[LoadedSample]) -> StoredBatch:
    """Reads the adversarial images of some samples that a call of an attack made.

    Raises:
        StoredImageError: a file is damaged, or holds an image of another size than the sample.
        FileNotFoundError: an image was not stored.
    """
    stored = [store.load(call.job.digest, call.eps, each.sample_id, each.image.shape) for each in samples]
    norms = [
        norm((adv.double() - sample.image.double())[None], call.job.attack.norm)
        for adv, sample in zip(stored, samples, strict=True)
    ]
    return StoredBatch(
        images=torch.stack(stored).clamp(0, 1),
        norm=torch.cat(norms),
        flags=tuple(_flags(adv, length.item(), call) for adv, length in zip(stored, norms, strict=True)),
    )


def norm_slack(length: float) -> float:
    """Largest difference of a second measurement of a norm."""
    return NORM_TOLERANCE * max(1.0, length)


def _flags(adv: Tensor, length: float, call: AttackCall) -> tuple[str, ...]:
    outside = (OUTSIDE_BOX,) if adv.min() < 0 or adv.max() > 1 else ()
    too_far = call.eps != "min" and length > call.eps + norm_slack(call.eps)
    return (*outside, ABOVE_EPS) if too_far else outside
