"""The logistic function with the same last bit wherever a value stands in a batch."""

from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    """`1 / (1 + exp(-x))`, elementwise, as `(1 + tanh(x / 2)) / 2`.

    `torch.sigmoid` on CPU computes the last elements of a tensor by other instructions than the rest, so that its last
    bit depends on the batch around an image; the hyperbolic tangent does not. Absolute error below 1e-7 in float32.

    Examples:
        >>> sigmoid(torch.tensor([-2.0, 0.0, 2.0]))
        tensor([0.1192, 0.5000, 0.8808])
    """
    return (x / 2).tanh_().add_(1).div_(2)
