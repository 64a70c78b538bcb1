"""Projections of perturbations onto boxes and norm balls."""

import torch
from torch import Tensor

from segrobust.functional.norms import NormName, norm, per_image


def project_ball(delta: Tensor, eps: Tensor, name: NormName) -> Tensor:
    """Euclidean projection of each perturbation onto the ball of its own radius.

    l_inf: `clip(delta, -eps, eps)`; l2: `delta * min(1, eps / ||delta||_2)`; l1: `sign(delta) max(|delta| - t, 0)` with
    the smallest `t >= 0` for which the result lies in the ball. A point of the ball stays as it is.

    Args:
        delta: perturbations `(B, ...)`.
        eps: radii `(B,)`, at least 0, in the units of the norm.
        name: `"linf"`, `"l2"` or `"l1"`.

    Raises:
        ValueError: another name.

    Examples:
        >>> delta = torch.tensor([[0.3, -0.4], [0.0, 0.1]])
        >>> project_ball(delta, torch.tensor([0.2, 0.2]), "linf")
        tensor([[ 0.2000, -0.2000],
                [ 0.0000,  0.1000]])
        >>> project_ball(delta, torch.tensor([0.25, 0.25]), "l2")
        tensor([[ 0.1500, -0.2000],
                [ 0.0000,  0.1000]])
    """
    radius = per_image(eps, delta)
    if name == "linf":
        return delta.clamp(-radius, radius)
    if name == "l2":
        length = per_image(norm(delta, "l2"), delta)
        return delta * (radius / length.clamp_min(1e-30)).clamp_max(1)
    if name == "l1":
        size = delta.abs()
        threshold = per_image(_l1_threshold(size.flatten(1), eps), delta)
        # In float64: millions of float32 values less a rounded t would miss the radius.
        left = (size - threshold).clamp_min(0)
        return delta.sign() * left.to(delta.dtype)
    raise ValueError(f"no projection onto the ball of norm {name!r}; use 'linf', 'l2' or 'l1'")


def _l1_threshold(size: Tensor, eps: Tensor) -> Tensor:
    """What the l1 projection takes from every absolute value: `(B, D), (B,) -> (B,)` float64, at least 0.

    Newton steps from the left: of the values above t, `(sum - eps) / number` is the next t. It grows until no value
    leaves them, which takes a handful of passes; an image that is there already stays where it is.

    Source: Michelot, J. Optim. Theory Appl. 50 (1986); no sorting.
    """
    threshold = torch.zeros_like(eps, dtype=torch.float64)
    above = torch.empty_like(size)
    while True:
        # As 0 and 1: comparisons that give booleans are slow on CPU.
        torch.gt(size, threshold[:, None].to(size.dtype), out=above)
        total, count = (size * above).sum(1, dtype=torch.float64), above.sum(1, dtype=torch.float64)
        following = torch.maximum((total - eps) / count.clamp_min(1), threshold)
        if not (following > threshold).any():
            return threshold
        threshold = following


def project(delta: Tensor, eps: Tensor, name: NormName, lower: Tensor, upper: Tensor) -> Tensor:
    """A point of the intersection of ball and box: ball first, then box.

    The box contains 0, so clipping to it never lengthens a vector and the result lies in both sets. For l_inf it is the
    exact projection onto the intersection.

    Args:
        delta: perturbations `(B, C, H, W)`.
        eps: radii `(B,)`.
        name: norm of the ball.
        lower: lower bounds of delta, `<= 0`, same shape.
        upper: upper bounds of delta, `>= 0`, same shape.

    Examples:
        >>> delta = torch.tensor([[0.3, -0.4], [0.0, 0.1]])
        >>> lower, upper = torch.full_like(delta, -0.1), torch.ones_like(delta)  # what keeps pixels in [0, 1]
        >>> project(delta, torch.tensor([0.2, 0.2]), "linf", lower, upper)
        tensor([[ 0.2000, -0.1000],
                [ 0.0000,  0.1000]])
    """
    return project_ball(delta, eps, name).clamp(lower, upper)
