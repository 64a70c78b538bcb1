"""Whether a network can be attacked by gradients at all, asked once on a small random image."""

from collections.abc import Sequence

import torch
from torch import nn

from segrobust.functional.logits import require_logits
from segrobust.functional.modes import attackable
from segrobust.inputs import NO_GRADIENT, explain_backward, explain_refusals, require_network

_ZERO = (
    "its input is rounded, or its logits went through a softmax, sigmoid or sign that is saturated: give the logits "
    "themselves; attacks that ask for no gradient (segrobust.attacks.Square) take the network as it is"
)
_NOT_FINITE = (
    "check that the weights are loaded, that the normalisation is in units of images in [0, 1], and that nothing takes "
    "a root or a logarithm of 0; half precision overflows: load the weights in float32"
)


def check_differentiable(network: nn.Module, *, size: Sequence[int] = (64, 64), channels: int = 3) -> int:
    """Refuses a network whose logits have no usable gradient with respect to the image.

    One forward and one backward pass, on one image of uniform noise, in the state in which attacks see the network. Its
    state is restored, and the global random generators do not change if the network draws no numbers.

    Args:
        network: maps images in [0, 1] `(B, C, H, W)` to logits `(B, K, H, W)`.
        size: height and width of the image, in pixels.
        channels: number of channels C.

    Returns:
        The number of classes K.

    Raises:
        TypeError: the output is no tensor of floating-point numbers.
        ValueError: the logits do not have the shape `(1, K, H, W)`, or are NaN or infinite; or the gradient is missing,
            not finite, or zero everywhere. The message says what to do.
    """
    require_network(network)
    height, width = size
    generator = torch.Generator().manual_seed(0)
    weight = next((weight for weight in network.parameters() if weight.is_floating_point()), torch.empty(0))
    with attackable(network):
        images = torch.rand(1, channels, height, width, generator=generator).to(weight).requires_grad_()
        with explain_refusals(network, images):
            logits = require_logits(network(images.clone()), images)  # no leaf: a network may write to its input
        if not logits.isfinite().all():
            raise ValueError(f"the logits of an image of noise are not finite: {_NOT_FINITE}")
        if not logits.requires_grad:
            raise ValueError(NO_GRADIENT)
        direction = torch.randn(logits.shape, generator=generator).to(logits)
        with explain_backward():
            (gradient,) = torch.autograd.grad(logits, images, direction, allow_unused=True)
    if gradient is None:
        raise ValueError(NO_GRADIENT)
    if not gradient.isfinite().all():
        raise ValueError(f"the gradient of the logits with respect to the image is not finite: {_NOT_FINITE}")
    if not gradient.any():
        raise ValueError(f"the gradient of the logits with respect to the image is zero everywhere: {_ZERO}")
    return int(logits.shape[1])
