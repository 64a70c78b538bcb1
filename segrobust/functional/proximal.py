"""Proximal operators of all norms under one name."""

from torch import Tensor

from segrobust.functional.norms import NormName
from segrobust.functional.prox import prox_linf
from segrobust.functional.prox_l1 import prox_l1
from segrobust.functional.prox_l2 import prox_l2


def prox(
    name: NormName,
    v: Tensor,
    metric: Tensor,
    weight: Tensor,
    lower: Tensor,
    upper: Tensor,
    guess: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Proximal operator of a norm with a box that contains 0, in a diagonal metric.

    `argmin_z 1/2 sum_j H_j (z_j - v_j)^2 + weight * ||z||` subject to `lower <= z <= upper`, for each image.

    Args:
        name: `"linf"`, `"l2"` or `"l1"`.
        v: `(B, ...)` points.
        metric: `(B, ...)` diagonal H > 0.
        weight: `(B,)` weights of the norm, >= 0.
        lower: `(B, ...)` lower bounds, <= 0.
        upper: `(B, ...)` upper bounds, >= 0.
        guess: `(B,)` what the previous call gave back; changes the speed only.

    Returns:
        z `(B, ...)`, and a guess `(B,)` for the next call: the norm of z for l_inf and l2; for l1, which has nothing
        to look for, the guess that was passed.

    Raises:
        ValueError: another name.
    """
    if name == "linf":
        return prox_linf(v, metric, weight, lower, upper, guess)
    if name == "l2":
        return prox_l2(v, metric, weight, lower, upper, guess)
    if name == "l1":
        return prox_l1(v, metric, weight, lower, upper), guess
    raise ValueError(f"norm must be 'linf', 'l2' or 'l1', got {name!r}")
