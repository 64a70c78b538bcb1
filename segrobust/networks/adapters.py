"""From the outputs that segmentation libraries return to logits at the resolution of the image."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segrobust.networks.network_wrapper import NetworkWrapper

_USUAL_NAMES = ("out", "logits")
"""torchvision's dictionary and the output objects of transformers."""

_MAX_REDUCTION = 64
"""No segmentation head is coarser than this; a larger factor is a classifier's pooled output."""


class FullResolution(NetworkWrapper):
    """A network that takes images of any size and returns plain logits at their resolution.

    Images are padded at the bottom and at the right by their last row and column to multiples of `stride`; the output
    is unwrapped, cast to float32 (float64 is kept), upsampled bilinearly (`align_corners=False`) to the padded size,
    and cut to the size of the images. Everything is differentiable.

    Unwrapping: a tensor is taken as it is; of a mapping or an object the entry `out`, else `logits`; of a tuple or list
    the first entry (the main head, by the convention of the libraries that also return auxiliary ones).

    Args:
        network: maps images `(B, C, H, W)` to logits `(B, K, h, w)`, possibly wrapped, with h <= H and w <= W.
        stride: the sizes of images that the network takes are multiples of it, in pixels.
        output: the key, attribute or (for tuples) position of the logits, if it is not one of the usual ones.

    Raises:
        TypeError: `network` is not an `nn.Module`, or `stride` is not an int.
        ValueError: `stride` is less than 1.
    """

    def __init__(self, network: nn.Module, stride: int = 1, output: str | None = None) -> None:
        super().__init__(network)
        if not isinstance(stride, int) or isinstance(stride, bool):
            raise TypeError(f"stride must be an int, got {stride!r}")
        if stride < 1:
            raise ValueError(f"stride must be at least 1 (no padding), got {stride}")
        self.stride = stride
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """Gives logits at the resolution of the images: `(B, C, H, W) -> (B, K, H, W)`.

        Raises:
            TypeError: the network's output holds no floating-point tensor where logits are expected.
            ValueError: `output` names nothing in the network's output, or the logits do not have the shape
                `(B, K, h, w)` with h and w the image's size divided by one factor.
        """
        if images.ndim != 4:
            raise ValueError(f"images must have the shape (B, C, H, W), got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        padded = _pad_to_multiple(images, self.stride)
        logits = _select_logits(self.network(padded), self.output)
        _check_logits(logits, padded)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if logits.shape[-2:] != padded.shape[-2:]:
            logits = F.interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def extra_repr(self) -> str:
        """Shows the settings beside the network in `repr`."""
        return f"stride={self.stride}, output={self.output!r}"


def _pad_to_multiple(images: Tensor, stride: int) -> Tensor:
    """Repeats the last row and column until both sizes are multiples of the stride.

    The gradient of an expanded view is a plain sum. That of `F.pad(mode="replicate")` uses atomic additions on CUDA,
    and would make two runs of the same attack differ.
    """
    for dim in (-2, -1):
        missing = -images.shape[dim] % stride
        if missing:
            edge = images.narrow(dim, images.shape[dim] - 1, 1)
            shape = list(edge.shape)
            shape[dim] = missing
            images = torch.cat((images, edge.expand(shape)), dim=dim)
    return images


def _select_logits(result: object, output: str | None) -> Tensor:
    """Unwraps the logits from what a network returned."""
    if isinstance(result, Tensor):
        if output is not None:
            raise ValueError(f"output={output!r} has no effect: the network returns a tensor; leave `output` out")
        return _require_logits(result, "the output")
    entries = _entries(result)
    if output is None:
        usual = ("0",) if isinstance(result, Sequence) else _USUAL_NAMES
        output = next((name for name in usual if name in entries), None)
        if output is None:
            raise ValueError(
                f"the network returns a {type(result).__name__} without {' or '.join(_USUAL_NAMES)}; it has "
                f"{_listed(entries)}: name the logits by `output`"
            )
    if output not in entries:
        raise ValueError(
            f"output={output!r} is not in the network's {type(result).__name__}: it has {_listed(entries)}"
        )
    return _require_logits(entries[output], f"entry {output!r} of the output")


def _entries(result: object) -> dict[str, object]:
    """The entries of a mapping, the items of a sequence by position (and by name), or the attributes of an object."""
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items()}
    if isinstance(result, Sequence) and not isinstance(result, str):
        named = dict(zip(getattr(result, "_fields", ()), result, strict=False))
        return {str(position): value for position, value in enumerate(result)} | named
    return {name: value for name, value in getattr(result, "__dict__", {}).items() if not name.startswith("_")}


def _listed(entries: Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in entries) or "nothing in it"


def _require_logits(value: object, where: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{where} of the network must be a tensor of logits, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{where} of the network has dtype {value.dtype}: logits are needed, not predicted classes")
    return value


def _check_logits(logits: Tensor, images: Tensor) -> None:
    """Raises ValueError unless the shape is `(B, K, h, w)` with `(h, w)` the size of the images over one factor."""
    got, (batch, _, height, width) = tuple(logits.shape), images.shape
    expected = f"the network returned the shape {got} for images {tuple(images.shape)}; expected (B, K, h, w)"
    if len(got) != 4:
        raise ValueError(f"{expected}: logits of {len(got)} dimensions are not a map of class scores")
    if got[0] != batch:
        raise ValueError(f"{expected} with B = {batch}: the network must keep the batch")
    if not _is_scaled(got[2:], (height, width)) or (got[1:3] == (height, width) != got[2:]):
        if _is_scaled(got[1:3], (height, width)):
            raise ValueError(f"{expected}: the classes seem to be last; permute the logits by (0, 3, 1, 2)")
        raise ValueError(
            f"{expected} with (h, w) = ({height}, {width}) divided by one factor between 1 and {_MAX_REDUCTION}: "
            f"let the network resize its logits to the image itself"
        )
    if got[1] < 2:
        raise ValueError(f"{expected} with K >= 2: turn one sigmoid logit z into two classes by cat((0 * z, z), dim=1)")


def _is_scaled(size: tuple[int, ...], full: tuple[int, int]) -> bool:
    """Whether `size` is `full` divided by one factor, up to the rounding of each side."""
    (low_h, low_w), (height, width) = size, full
    if not (
        height <= _MAX_REDUCTION * low_h and width <= _MAX_REDUCTION * low_w and low_h <= height and low_w <= width
    ):
        return False
    return abs(low_h * width - low_w * height) <= height + width
