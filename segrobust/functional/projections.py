"""Projections of perturbations onto boxes and norm balls."""

from torch import Tensor

from segrobust.functional.norms import NormName, norm, per_image


def project_ball(delta: Tensor, eps: Tensor, name: NormName) -> Tensor:
    """Euclidean projection of each perturbation onto the ball of its own radius.

    l_inf: `clip(delta, -eps, eps)`; l2: `delta * min(1, eps / ||delta||_2)`.

    Args:
        delta: perturbations `(B, ...)`.
        eps: radii `(B,)`, in the units of the norm.
        name: `"linf"` or `"l2"`.

    Raises:
        ValueError: for the l1 ball, whose projection no attack here needs.
    """
    radius = per_image(eps, delta)
    if name == "linf":
        return delta.clamp(-radius, radius)
    if name == "l2":
        length = per_image(norm(delta, "l2"), delta)
        return delta * (radius / length.clamp_min(1e-30)).clamp_max(1)
    raise ValueError(f"projection onto the {name} ball is not available; use 'linf' or 'l2'")


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
