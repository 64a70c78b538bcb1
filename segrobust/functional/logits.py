"""What a network must take and return."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from torch import Tensor

_CONVOLUTION: Final = re.compile(r"to have (\d+) channels, but got (\d+) channels instead")
"""What torch says where a convolution gets an input of another number of channels."""


@contextmanager
def channels_named(images: Tensor) -> Iterator[None]:
    """Within it, a network whose first convolution takes another number of channels raises an error that says so.

    Args:
        images: `(B, C, H, W)`, what the network is given.

    Raises:
        ValueError: instead of torch's error.

    Examples:
        >>> images = torch.zeros(1, 3, 4, 5)
        >>> with channels_named(images):  # doctest: +ELLIPSIS
        ...     torch.nn.Conv2d(4, 2, 1)(images)
        Traceback (most recent call last):
            ...
        ValueError: the network takes images of 4 channels, but the images have 3: ...
    """
    try:
        yield
    except RuntimeError as error:
        found = _CONVOLUTION.search(str(error))
        if found is None or int(found[2]) != images.shape[1]:
            raise
        raise ValueError(
            f"the network takes images of {found[1]} channels, but the images have {found[2]}: give it images of its "
            f"channels, in the order of its training, or a network that was made for {found[2]}"
        ) from error


def require_logits(output: object, images: Tensor) -> Tensor:
    """Gives the output of a network if it is logits at the resolution of the images.

    Args:
        output: what the network returned.
        images: `(B, C, H, W)`, what it was given.

    Returns:
        The output: `(B, K, H, W)`, floating point.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: a tensor of another shape.

    Examples:
        >>> images = torch.zeros(2, 3, 4, 5)
        >>> require_logits(torch.zeros(2, 7, 4, 5), images).shape
        torch.Size([2, 7, 4, 5])
        >>> require_logits(torch.zeros(2, 7, 2, 2), images)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: the network must return logits of the shape (2, K, 4, 5) for ... got (2, 7, 2, 2); ...
    """
    fix = "wrap it in segrobust.networks.FullResolution"
    if not isinstance(output, Tensor) or not output.is_floating_point():
        got = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"the network must return a floating-point tensor of logits (B, K, H, W), got {got}; {fix}")
    batch, _, height, width = images.shape
    if output.ndim != 4 or (len(output), *output.shape[2:]) != (batch, height, width):
        raise ValueError(
            f"the network must return logits of the shape ({batch}, K, {height}, {width}) for images of the shape "
            f"{tuple(images.shape)}, got {tuple(output.shape)}; {fix}"
        )
    return output
