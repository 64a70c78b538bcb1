"""Proximal operator of the l1 norm with box constraints in a diagonal metric."""

import torch
from torch import Tensor

from segrobust.functional.norms import per_image


def prox_l1(v: Tensor, metric: Tensor, weight: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    r"""Exact proximal operator of the l1 norm with a box, in a diagonal metric.

    `argmin_z 1/2 sum_j H_j (z_j - v_j)^2 + weight * ||z||_1` subject to `lower <= z <= upper`, for each image:
    `clip(sign(v) max(|v| - weight / H, 0), lower, upper)`. The problem falls apart into convex ones of one variable
    each, so clipping the unconstrained minimiser is exact.

    Args:
        v: `(B, ...)` points.
        metric: `(B, ...)` diagonal H > 0.
        weight: `(B,)` weights of the norm, >= 0.
        lower: `(B, ...)` lower bounds, <= 0.
        upper: `(B, ...)` upper bounds, >= 0.

    Returns:
        z `(B, ...)`.

    Examples:
        >>> v, ones = torch.tensor([[3.0, 1.0]]), torch.ones(1, 2)
        >>> prox_l1(v, ones, torch.tensor([1.5]), lower=-9 * ones, upper=9 * ones)
        tensor([[1.5000, 0.0000]])
    """
    threshold = per_image(weight.to(v.dtype), v) / metric
    # v less its projection onto [-threshold, threshold]; clamp with tensor bounds is slower on CPU
    shrunk = v - torch.maximum(torch.minimum(v, threshold), -threshold)
    return torch.maximum(torch.minimum(shrunk, upper), lower)
