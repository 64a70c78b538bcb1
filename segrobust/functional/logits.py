"""What a network must return."""

import numpy as np
import torch
from torch import Tensor

from segrobust.functional.network_outputs import wrap_advice


def require_logits(output: object, images: Tensor) -> Tensor:
    """Gives the output of a network if it is logits at the resolution of the images.

    Args:
        output: what the network returned.
        images: `(B, C, H, W)`, what it was given.

    Returns:
        The output: `(B, K, H, W)`, floating point.

    Raises:
        TypeError: no floating-point tensor, or a sparse one.
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
    if not isinstance(output, Tensor) or not output.is_floating_point():
        got = output.dtype if isinstance(output, Tensor) else type(output).__name__
        fix = "return the logits" if output is None else wrap_advice(output)
        if isinstance(output, Tensor | np.ndarray):
            fix = "return the logits themselves, without argmax, rounding and NumPy"
        raise TypeError(f"the network must return a floating-point tensor of logits (B, K, H, W), got {got}; {fix}")
    if output.layout != torch.strided:
        raise TypeError(f"the network must return dense logits, got {output.layout}: return logits.to_dense()")
    batch, _, height, width = images.shape
    if output.ndim != 4 or (len(output), *output.shape[2:]) != (batch, height, width):
        raise ValueError(
            f"the network must return logits of the shape ({batch}, K, {height}, {width}) for images of the shape "
            f"{tuple(images.shape)}, got {tuple(output.shape)}; {_fix_shape(tuple(output.shape), tuple(images.shape))}"
        )
    return output


_WRAP = "wrap it in segrobust.networks.FullResolution"


def _fix_shape(got: tuple[int, ...], images: tuple[int, ...]) -> str:
    """What to do about logits of another shape `(B, K, H, W)`."""
    batch, _, height, width = images
    if len(got) != 4:
        return "keep batch, classes, rows and columns as dimensions, without squeeze, flatten or [0]"
    if got[:3] == (batch, height, width):
        return "the classes seem to be last: permute the logits by (0, 3, 1, 2)"
    if got[0] != batch:
        return "give logits of every image of the batch"
    if got[2] > height or got[3] > width:
        return "resize the logits to the size of the image inside the network"
    return _WRAP


def require_class_logits(output: object, images: Tensor) -> Tensor:
    """As `require_logits`, of at least two classes.

    Raises:
        TypeError: as there.
        ValueError: as there, or one channel.

    Examples:
        >>> import torch
        >>> require_class_logits(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4)).shape
        torch.Size([1, 2, 4, 4])
    """
    logits = require_logits(output, images)
    if logits.shape[1] < 2:
        raise ValueError(
            f"the network must predict at least 2 classes, got {logits.shape[1]} channel of logits; one logit of a "
            "sigmoid becomes two classes by segrobust.networks.SigmoidClasses(network)"
        )
    return logits
