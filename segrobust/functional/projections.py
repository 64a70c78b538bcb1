"""Projections of perturbations onto boxes and norm balls."""

import torch
from torch import Tensor

from segrobust.functional.norms import NormName, norm, per_image


def project_ball(delta: Tensor, eps: Tensor, name: NormName) -> Tensor:
    """Euclidean projection of each perturbation onto the ball of its own radius.

    l_inf: `clip(delta, -eps, eps)`; l2: `delta * min(1, eps / ||delta||_2)`; l1: `sign(delta) max(|delta| - t, 0)` with
    the smallest `t >= 0` for which the result lies in the ball, found by sorting. A point of the ball stays as it is.

    Args:
        delta: perturbations `(B, ...)`.
        eps: radii `(B,)`, at least 0, in the units of the norm.
        name: `"linf"`, `"l2"` or `"l1"`.

    Raises:
        ValueError: another name.

    Source: l1: Duchi et al., ICML 2008, section 3.
    """
    radius = per_image(eps, delta)
    if name == "linf":
        return delta.clamp(-radius, radius)
    if name == "l2":
        length = per_image(norm(delta, "l2"), delta)
        return delta * (radius / length.clamp_min(1e-30)).clamp_max(1)
    if name == "l1":
        # In float64: millions of float32 values less a rounded t would miss the radius.
        size = delta.abs().double()
        left = (size - per_image(_l1_threshold(size.flatten(1), eps), delta)).clamp_min(0)
        return delta.sign() * left.to(delta.dtype)
    raise ValueError(f"no projection onto the ball of norm {name!r}; use 'linf', 'l2' or 'l1'")


def _l1_threshold(size: Tensor, eps: Tensor) -> Tensor:
    """What the l1 projection takes from every absolute value: `(B, D), (B,) -> (B,)`, at least 0.

    Over the k largest values, `t_k = (sum - eps) / k`. The values that stay positive are those of the largest k whose
    k-th value is above t_k, and t is the t_k of that k.
    """
    ordered = size.sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - eps[:, None]
    count = torch.arange(1, size.shape[1] + 1, device=size.device)
    kept = (ordered * count > excess).sum(1, keepdim=True).clamp_min(1)
    return (excess.gather(1, kept - 1) / kept)[:, 0].clamp_min(0)


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
    """
    return project_ball(delta, eps, name).clamp(lower, upper)
