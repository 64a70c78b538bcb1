"""Losses of every pixel that fixed-budget attacks increase, by name."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from segrobust.functional.margins import dlr, margin, require_classes

PixelLossName = Literal["ce", "margin", "dlr"]


def adversarial_loss(name: PixelLossName, logits: Tensor, reference: Tensor, *, sign: int = 1) -> Tensor:
    """Loss of every pixel that an attack increases.

    With r the reference class (the true one for `sign=1`, the target for `sign=-1`):
    `"ce"`: `sign * cross_entropy(z, r)`; `"margin"`: `-sign * (z_r - max_{c != r} z_c)`; `"dlr"`: minus the signed DLR.

    Args:
        name: `"ce"`, `"margin"` or `"dlr"`.
        logits: `(B, K, H, W)`.
        reference: `(B, H, W)` int64.
        sign: 1 untargeted, -1 targeted.

    Returns:
        `(B, H, W)`.

    Raises:
        ValueError: too few classes for the loss.
    """
    require_classes("dlr" if name == "dlr" else "margin", logits.shape[1], targeted=sign < 0)
    if name == "ce":
        return sign * F.cross_entropy(logits, reference, reduction="none")
    if name == "margin":
        return -sign * margin(logits, reference)
    return -dlr(logits, reference, sign=sign)
