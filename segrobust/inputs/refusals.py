"""Why a network refuses images: what differs between the two, in place of torch's words."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_STRIDES = (2, 4, 8, 16, 32, 64)


@contextlib.contextmanager
def explain_refusals(network: nn.Module, images: Tensor) -> Iterator[None]:
    """Within it, an error of the network is explained by what differs between it and the images.

    An error for which nothing is found is raised as it is, and so is a lack of memory.

    Args:
        network: what is called.
        images: `(B, C, H, W)`, what it is given.

    Raises:
        ValueError: device, precision, number of channels or size do not fit; the message has the line to write.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:
        reason = _difference(network, images) or _exported(error, images) or _layout(network, images)
        reason = reason or _size(network, images)
        if reason is None:
            raise
        raise ValueError(reason) from error


@contextlib.contextmanager
def explain_backward() -> Iterator[None]:
    """Within it, torch's error about layers that let no gradient to the image pass says what to change.

    Raises:
        ValueError: activations are recomputed in a way that gives gradients of weights alone.
    """
    try:
        yield
    except RuntimeError as error:
        if "use_reentrant=True" not in str(error):
            raise
        raise ValueError(
            "the network recomputes its activations by torch.utils.checkpoint with use_reentrant=True, which gives "
            "gradients of weights alone: switch that off, such as by use_checkpoint=False or "
            "gradient_checkpointing_disable(), or write use_reentrant=False"
        ) from error


def _difference(network: nn.Module, images: Tensor) -> str | None:
    """What differs between weights and images."""
    weight = next((weight for weight in network.parameters() if weight.is_floating_point()), None)
    if weight is not None and weight.device != images.device:
        return (
            f"the images are on {images.device}, the network is on {weight.device}: pass images and labels on the "
            f'device of the network, images.to("{weight.device}"), or move it, network.to("{images.device}")'
        )
    if weight is not None and weight.dtype != images.dtype:
        fix = {torch.float64: "images.double()", torch.float32: "images.float()"}.get(weight.dtype, "network.float()")
        return f"the images are {images.dtype}, the network is {weight.dtype}: pass {fix}"
    convolution = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    expected = images.shape[1] if convolution is None else convolution.in_channels
    if images.shape[1] != expected:
        return (
            f"the images have {images.shape[1]} channels, the network's first convolution takes {expected}: give it "
            f"images of its channels, in the order of its training, or a network that was made for {images.shape[1]}"
        )
    return None


def _exported(error: Exception, images: Tensor) -> str | None:
    """What to do about an exported program that takes other shapes alone."""
    if not isinstance(error, AssertionError) or "Guard failed" not in str(error):
        return None
    return (
        f"the exported network does not take images of the shape {tuple(images.shape)} ({error}): export it with "
        "dynamic_shapes for batch, height and width, as finished images leave the batch"
    )


def _layout(network: nn.Module, images: Tensor) -> str | None:
    """What to write for a network that takes images with the channels last."""
    inside = network
    while isinstance(getattr(inside, "network", None), nn.Module):  # a wrapper would refuse logits of another size
        inside = inside.network
    if _takes(inside, images) or not _takes(inside, images.permute(0, 2, 3, 1)):
        return None
    return (
        f"the network does not take images {tuple(images.shape)}, but with the channels last: write a module whose "
        "forward calls it with images.permute(0, 2, 3, 1)"
    )


def _size(network: nn.Module, images: Tensor) -> str | None:
    """The multiple to which sizes must be padded, if the network then takes an image."""
    height, width = images.shape[-2:]
    if _takes(network, images):
        return None
    for stride in _STRIDES:
        padded = (height + -height % stride, width + -width % stride)
        if padded == (height, width):
            continue
        if _takes(network, images.new_empty(*images.shape[:2], *padded)):
            return (
                f"the network does not take images of {height} x {width} pixels, but of multiples of {stride}: wrap it "
                f"in segrobust.networks.FullResolution(network, stride={stride}), which pads them"
            )
    return None


def _takes(network: nn.Module, like: Tensor) -> bool:
    """Whether the network takes a black image of a shape."""
    with torch.no_grad(), contextlib.suppress(RuntimeError, AssertionError, ValueError):
        network(like.new_zeros(1, *like.shape[1:]))
        return True
    return False
