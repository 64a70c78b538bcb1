"""Norms of perturbations, one value per image."""

from typing import Literal

import torch
from torch import Tensor

NormName = Literal["linf", "l2", "l1"]

DUAL: dict[NormName, NormName] = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""Dual norms: `|<g, delta>| <= ||g||_dual ||delta||`."""


def norm_order(name: NormName) -> tuple[bool, str]:
    """Key to sort norms by, l_inf first.

    >>> sorted(("l1", "l2", "linf"), key=norm_order)
    ['linf', 'l1', 'l2']
    """
    return name != "linf", name


def norm(delta: Tensor, name: NormName) -> Tensor:
    """Norm of each perturbation of a batch.

    Args:
        delta: perturbations `(B, ...)`, image units.
        name: `"linf"`, `"l2"` or `"l1"`, over all channels and pixels of an image.

    Returns:
        `(B,)` norms in the units of `delta`.

    Raises:
        ValueError: another name.

    Examples:
        >>> delta = torch.tensor([[0.3, -0.4], [0.0, 0.1]])
        >>> norm(delta, "linf"), norm(delta, "l2")
        (tensor([0.4000, 0.1000]), tensor([0.5000, 0.1000]))
    """
    flat = delta.flatten(1)
    if name == "linf":
        return flat.abs().amax(1)
    if name == "l2":
        length: Tensor = torch.linalg.vector_norm(flat, dim=1)
        return length
    if name == "l1":
        return flat.abs().sum(1)
    raise ValueError(f"norm must be 'linf', 'l2' or 'l1', got {name!r}")


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Reshapes per-image values `(B,)` to `(B, 1, ..., 1)` so that they broadcast against `like` `(B, ...)`.

    Examples:
        >>> per_image(torch.tensor([1.0, 2.0]), torch.zeros(2, 3, 4, 5)).shape
        torch.Size([2, 1, 1, 1])
    """
    return values.view(-1, *[1] * (like.dim() - 1))
