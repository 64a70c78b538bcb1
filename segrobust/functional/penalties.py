"""Penalty functions of augmented Lagrangian methods."""

from typing import Literal

from torch import Tensor

Derivative = Literal["exact", "published"]


def penalty(y: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """Penalty-Lagrangian function of ALMA-prox, elementwise.

    `y >= 0`: `mu y + mu rho y^2 + rho^2 y^3 / 6`; `y < 0`: `mu y / (1 - max(1, rho) y)`.

    Args:
        y: constraint values, violated where positive.
        rho: penalty parameters, > 0.
        mu: multipliers, > 0.

    Returns:
        The penalty, of the broadcast shape.

    Source: Rony, Pesquet & Ben Ayed, CVPR 2023 (their function P with the penalty parameter of the negative branch
    kept at 1 or above).

    Examples:
        >>> y, one = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor(1.0)
        >>> penalty(y, rho=2 * one, mu=one)
        tensor([-0.3333,  0.0000,  3.6667])
    """
    positive = y.clamp_min(0)
    negative = y.clamp_max(0)
    polynomial = positive * (mu + positive * (mu * rho + positive * rho**2 / 6))
    return polynomial + mu * negative / (1 - rho.clamp_min(1) * negative)


def penalty_derivative(y: Tensor, rho: Tensor, mu: Tensor, which: Derivative = "exact") -> Tensor:
    """Derivative of `penalty` with respect to `y`, elementwise.

    Exact: `y >= 0`: `mu + 2 mu rho y + rho^2 y^2 / 2`; `y < 0`: `mu / (1 - max(1, rho) y)^2`; continuous, `mu` at 0.
    The published code has `mu y` in place of the first `mu` for `y >= 0`, so that a barely violated constraint weighs
    next to nothing; `which="published"` gives that, to reproduce published figures.

    Args:
        y: constraint values.
        rho: penalty parameters, > 0.
        mu: multipliers, > 0.
        which: `"exact"` or `"published"`.

    Examples:
        >>> y, one = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor(1.0)
        >>> penalty_derivative(y, rho=2 * one, mu=one)
        tensor([0.1111, 1.0000, 7.0000])
        >>> penalty_derivative(y, rho=2 * one, mu=one, which="published")
        tensor([0.1111, 0.0000, 7.0000])
    """
    # Without a selection by sign, which is not vectorised on CPU: each term vanishes on the other branch.
    positive = y.clamp_min(0)
    satisfied = mu / (1 - rho.clamp_min(1) * y.clamp_max(0)) ** 2  # mu for y >= 0
    curved = positive * (2 * mu * rho + positive * rho**2 / 2)
    if which == "published":
        return satisfied * (y < 0) + mu * positive + curved
    return satisfied + curved
