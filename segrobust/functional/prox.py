"""Proximal operators of all norms under one name."""

import torch
from torch import Tensor

from segrobust.functional.norms import NormName
from segrobust.functional.prox_l1 import prox_l1
from segrobust.functional.prox_l2 import prox_l2
from segrobust.functional.prox_linf import prox_linf


def prox(
    name: NormName,
    v: Tensor,
    metric: Tensor,
    weight: Tensor,
    lower: Tensor,
    upper: Tensor,
    guess: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
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
        z `(B, ...)`, and a guess `(B,)` for the next call: the norm of z for l_inf and l2; zero for l1, which has
        nothing to look for.

    Raises:
        ValueError: another name.

    Examples:
        >>> v, ones = torch.tensor([[3.0, 1.0]]), torch.ones(1, 2)
        >>> z, _ = prox("linf", v, ones, torch.tensor([1.0]), lower=-9 * ones, upper=9 * ones)
        >>> z
        tensor([[2., 1.]])
    """
    if name == "linf":
        return prox_linf(v, metric, weight, lower, upper, guess)
    if name == "l2":
        return prox_l2(v, metric, weight, lower, upper, guess)
    if name == "l1":
        return prox_l1(v, metric, weight, lower, upper), torch.zeros_like(weight)
    raise ValueError(f"norm must be 'linf', 'l2' or 'l1', got {name!r}")


def norm_of_ones(num_values: int, name: NormName) -> float:
    """`D^(1/p)`: the norm of D ones, so that norms over it do not grow with the size of an image.

    Raises:
        KeyError: another name.

    Examples:
        >>> norm_of_ones(16, "linf"), norm_of_ones(16, "l2"), norm_of_ones(16, "l1")
        (1.0, 4.0, 16.0)
    """
    exponents: dict[NormName, float] = {"linf": 0.0, "l2": 0.5, "l1": 1.0}
    return float(num_values ** exponents[name])
