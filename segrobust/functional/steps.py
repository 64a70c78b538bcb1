"""Directions of steps."""

from torch import Tensor

from segrobust.functional.norms import NormName, norm, per_image


def steepest_ascent(gradient: Tensor, name: NormName) -> Tensor:
    """Direction of unit norm along which a linear function grows fastest: `(B, ...) -> (B, ...)`.

    l_inf: the sign of the gradient; l2: the gradient over its norm, zero where the gradient is zero.

    Raises:
        ValueError: for l1.

    Examples:
        >>> gradient = torch.tensor([[3.0, -4.0]])
        >>> steepest_ascent(gradient, "linf"), steepest_ascent(gradient, "l2")
        (tensor([[ 1., -1.]]), tensor([[ 0.6000, -0.8000]]))
    """
    if name == "linf":
        return gradient.sign()
    if name == "l2":
        length = per_image(norm(gradient, "l2"), gradient)
        return gradient / length.clamp_min(1e-30)
    raise ValueError(f"no steepest ascent in the {name} norm; use 'linf' or 'l2'")
