"""Why a network refuses images: what differs between the two, in place of torch's words."""

import contextlib
import inspect
import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from segrobust.inputs.network_input import NO_GRADIENT

_STRIDES = (2, 4, 7, 8, 12, 14, 16, 24, 28, 32, 48, 56, 64, 96, 112, 128)
"""Multiples of which sizes may have to be, in pixels: strides of encoders, patches times windows of transformers."""

_SIDES = (224, 256, 384, 448, 512, 518, 640)
"""Sizes of the images of networks that take one size alone, in pixels."""

_REFUSALS = (RuntimeError, AssertionError, ValueError, TypeError, LookupError, AttributeError)
"""What networks raise for images that they do not take."""

_CALL = re.compile(r"missing \d+ required|takes \d+ positional argument")
_SCRIPTED_CALL = re.compile(r"missing value for argument|expected at most \d+ argument\(s\) but received")
_NO_TENSOR = re.compile(
    r"too many indices for tensor|new\(\): invalid data type|(got|not|type) '?Tensor|is not a mapping"
)
"""What Python and torch say of a tensor that is read as something else."""


@contextlib.contextmanager
def explain_refusals(network: nn.Module, images: Tensor) -> Iterator[None]:
    """Within it, an error of the network is explained by what differs between it and the images.

    An error for which nothing is found is raised as it is, and so are a lack of memory and what segrobust raises.

    Args:
        network: what is called.
        images: `(B, C, H, W)`, what it is given.

    Raises:
        ValueError: device, precision, number of channels, size, layout or arguments do not fit; the message has the
            line to write.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except _REFUSALS as error:
        if _is_ours(error):
            raise
        reason = _detached(error) or _difference(network, images) or _exported(error, images)
        reason = reason or _layout(network, images) or _size(network, images)
        reason = reason or _traced(error, images) or _arguments(error, network, images)
        if reason is None:
            raise
        raise ValueError(reason) from error


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
    if images.shape[1] != expected and _takes(network, images.new_empty(1, expected, *images.shape[2:])):
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
    inside = _innermost(network)  # a wrapper would refuse logits of another size
    if _takes(inside, images) or not _takes(inside, images.permute(0, 2, 3, 1)):
        return None
    return (
        f"the network does not take images {tuple(images.shape)}, but with the channels last: write a module whose "
        "forward calls it with images.permute(0, 2, 3, 1)"
    )


def _innermost(network: nn.Module) -> nn.Module:
    """The network inside its wrappers."""
    inside = getattr(network, "network", None)
    return _innermost(inside) if isinstance(inside, nn.Module) else network


def _size(network: nn.Module, images: Tensor) -> str | None:
    """What to write for a network that takes multiples of a size, or one size alone."""
    height, width = images.shape[-2:]
    if _takes(network, images):
        return None
    for stride in _STRIDES:
        padded = (height + -height % stride, width + -width % stride)
        if padded != (height, width) and _takes(network, images.new_empty(*images.shape[:2], *padded)):
            return (
                f"the network does not take images of {height} x {width} pixels, but of multiples of {stride}: wrap it "
                f"in segrobust.networks.FullResolution(network, stride={stride}), which pads them"
            )
    for side in _SIDES:
        if _takes(network, images.new_empty(*images.shape[:2], side, side)):
            return (
                f"the network does not take images of {height} x {width} pixels, but of {side} x {side}: resize the "
                f"data, or write SlidingWindow(FullResolution(network, stride={side}), window=({side}, {side})) (from "
                "segrobust.networks import FullResolution, SlidingWindow)"
            )
    return None


def _detached(error: Exception) -> str | None:
    """What is said of a network that wants its input as an array, of which torch says to detach it."""
    return NO_GRADIENT if "numpy() on Tensor that requires grad" in str(error) else None


def _traced(error: Exception, images: Tensor) -> str | None:
    """What to do about a traced program that takes other shapes alone."""
    if "TorchScript interpreter" not in str(error):
        return None
    last = str(error).strip().splitlines()[-1]
    return (
        f"the traced network does not take images of the shape {tuple(images.shape)} ({last}): give the module that "
        "was traced, or trace it without sizes that are constants, as finished images leave the batch"
    )


def _arguments(error: Exception, network: nn.Module, images: Tensor) -> str | None:
    """What to write for a network that takes something else than a batch of images, or more; None for other faults."""
    if not (_lacks_arguments(error, network) or _wants_no_tensor(error, network, images)):
        return None
    return (
        f"the network does not take a batch of images {tuple(images.shape)} alone ({type(error).__name__}: {error}): "
        "write a module that holds it, and whose forward(self, images) calls it with all that it takes"
    )


def _lacks_arguments(error: Exception, network: nn.Module) -> bool:
    """Whether the network takes more than one argument, or another number than one."""
    if _SCRIPTED_CALL.search(str(error)):
        return True
    if isinstance(error, AttributeError):
        return error.obj is None and _takes_the_image_second(_innermost(network))
    if not isinstance(error, TypeError):
        return False
    parameters = inspect.signature(_innermost(network).forward).parameters.values()
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return _CALL.search(str(error)) is not None
    required = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    return not positional or required not in ([], positional[:1])


def _takes_the_image_second(network: nn.Module) -> bool:
    """Whether the first argument of a network has a default, as ids of words before an image have."""
    first = next(iter(inspect.signature(network.forward).parameters.values()), None)
    return first is not None and first.default is None


def _wants_no_tensor(error: Exception, network: nn.Module, images: Tensor) -> bool:
    """Whether the network reads its input as a mapping, a list of mappings, an array or an object with attributes."""
    if not isinstance(error, AttributeError):
        return isinstance(error, TypeError | IndexError) and _NO_TENSOR.search(str(error)) is not None
    image = images.new_zeros(1, *images.shape[1:])
    with torch.no_grad():
        try:
            _innermost(network)(image)
        except AttributeError as again:
            return again.obj is image
        except _REFUSALS:
            return False
    return False


def _is_ours(error: Exception) -> bool:
    """Whether segrobust raised it, whose message says what to do."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and str(place.tb_frame.f_globals.get("__name__")).startswith("segrobust.")


def _takes(network: nn.Module, like: Tensor) -> bool:
    """Whether the network takes a black image of a shape."""
    with torch.no_grad(), contextlib.suppress(*_REFUSALS):
        network(like.new_zeros(1, *like.shape[1:]))
        return True
    return False


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
