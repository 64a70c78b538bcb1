"""From the outputs that segmentation libraries return to logits at the resolution of the image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segrobust.functional.network_outputs import entries_of, field_names, listed
from segrobust.networks.channels import with_background
from segrobust.networks.network_wrapper import NetworkWrapper
from segrobust.networks.outputs import query_names, require_name, shown_output

_USUAL_NAMES = ("out", "logits")
"""torchvision's dictionary and the output objects of transformers."""

Output: TypeAlias = str | int | Callable[[object], object]
"""The choice of the logits among what a network returns: a key or attribute, a position, or a function."""

_MAX_REDUCTION = 64
"""No segmentation head is coarser than this; a larger factor is a classifier's pooled output."""


class FullResolution(NetworkWrapper):
    """A network that takes images of any size and returns plain logits at their resolution.

    Images are padded at the bottom and at the right by their last row and column to multiples of `stride`; the output
    is unwrapped, cast to float32 (float64 is kept), upsampled bilinearly (`align_corners=False`) to the padded size,
    and cut to the size of the images. One logit z for a sigmoid becomes the logits `(0, z)` of two classes, which have
    the same probabilities (`SigmoidClasses`). Everything is differentiable.

    Unwrapping: a tensor is taken as it is; of a mapping, a named tuple or an object the entry `out`, else `logits`; of
    another tuple or list the first entry, if no other entry can be a map of class scores. Several candidates, such as
    `[auxiliary, main]` or the outputs of deep supervision, are refused, and `output` chooses.

    Args:
        network: maps images `(B, C, H, W)` to logits `(B, K, h, w)`, possibly wrapped, with h <= H and w <= W.
        stride: the sizes of images that the network takes are multiples of it, in pixels.
        output: the key, attribute or position (-1 is the last) of the logits; or a named function of what the network
            returns, which gives the logits. A key or position is not needed for a network that returns a tensor, and
            has no effect where a network returns a tensor in evaluation mode only.

    Raises:
        TypeError: `network` is not an `nn.Module`, `stride` is not an int, or `output` is of another type.
        ValueError: `stride` is less than 1, or `output` is a function without a name.
    """

    def __init__(self, network: nn.Module, stride: int = 1, output: Output | None = None) -> None:
        super().__init__(network)
        if not isinstance(stride, int) or isinstance(stride, bool):
            raise TypeError(f"stride must be an int, got {stride!r}")
        if stride < 1:
            raise ValueError(f"stride must be at least 1 (no padding), got {stride}")
        _check_output(output)
        self.stride = stride
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """Gives logits at the resolution of the images: `(B, C, H, W) -> (B, K, H, W)`, K >= 2.

        Raises:
            TypeError: the network's output holds no floating-point tensor where logits are expected.
            ValueError: the network returns several possible logits and `output` chooses none; `output` names nothing
                in the network's output; or the logits do not have the shape `(B, K, h, w)` with h and w the image's
                size divided by one factor.
        """
        if images.ndim != 4:
            raise ValueError(f"images must have the shape (B, C, H, W), got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        padded = _pad_to_multiple(images, self.stride)
        logits = self._select_logits(self.network(padded), padded)
        _check_logits(logits, padded)
        if logits.shape[1] == 1:
            logits = with_background(logits)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if logits.shape[-2:] != padded.shape[-2:]:
            logits = F.interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def extra_repr(self) -> str:
        """Shows the settings beside the network in `repr`."""
        return f"stride={self.stride}, output={shown_output(self.output)}"

    def _select_logits(self, result: object, images: Tensor) -> Tensor:
        """Unwraps the logits from what the network returned."""
        if callable(self.output):
            return _require_logits(
                self.output(result), f"what output={shown_output(self.output)} takes from the output"
            )
        if isinstance(result, Tensor):
            if self.output is not None and self.network.training:  # in evaluation mode many return the main head alone
                raise ValueError(
                    f"output={self.output!r} has no effect: the network returns a tensor; leave `output` out"
                )
            return _require_logits(result, "the output")
        entries = entries_of(result)
        if self.output is None and (queries := query_names(entries)):
            raise ValueError(
                f"the network classifies masks of queries: it returns a {type(result).__name__} with "
                f"{' and '.join(queries)}; put QueryNetwork inside: FullResolution(QueryNetwork(network), "
                f"stride={self.stride})"
            )
        if self.output is None:
            name = _usual_entry(result, entries, images)
        else:
            name = _position(self.output, result) if isinstance(self.output, int) else self.output
        if name not in entries:
            raise ValueError(
                f"output={self.output!r} is not in the network's {type(result).__name__}: it has {listed(entries)}"
            )
        return _require_logits(entries[name], f"entry {name!r} of the output")


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


def _check_output(output: object) -> None:
    """Refuses a choice that is of another type, or that `repr` could not identify."""
    if output is None or isinstance(output, str) or (isinstance(output, int) and not isinstance(output, bool)):
        return
    if not callable(output):
        raise TypeError(f"output must be a key, a position or a function of the network's output, got {output!r}")
    require_name(output)


def _usual_entry(result: object, entries: Mapping[str, object], images: Tensor) -> str:
    """The entry that holds the logits by convention.

    Raises:
        ValueError: no convention says which one; the message lists the entries.
    """
    usual = [name for name in _USUAL_NAMES if name in entries]
    found = dict(_score_maps(entries, images))
    maps = {name: value for name, value in found.items() if value.shape[1] > 1} or found
    if len(usual) == 1 or (usual and usual[1] not in maps):
        return usual[0]
    if not usual and isinstance(result, Sequence) and entries and set(maps) <= {"0", *field_names(result)[:1]}:
        return "0"
    kind = type(result).__name__
    if hasattr(result, "__array__"):
        raise ValueError(f"the network returns a {kind}, through which no gradient passes: return the tensor of logits")
    if "last_hidden_state" in entries and not maps.keys() - {"last_hidden_state"}:
        raise ValueError(
            f"the network returns a {kind} of features (last_hidden_state), so it is a backbone without a head: take "
            "the class of the same name that ends in ForSemanticSegmentation, or put a trained head on it"
        )
    if len(usual) == 2:
        reason = "with both of the usual names"
    elif isinstance(result, Sequence):
        reason = "whose first entry need not be the main output" if entries else "without an entry"
    else:
        reason = f"without {' or '.join(_USUAL_NAMES)}"
    raise ValueError(
        f"the network returns a {kind} {reason}; it has {listed(entries)}: name the logits by `output`, such as "
        f"FullResolution(network, output={_example(result, list(maps) or list(entries))})"
    )


def _example(result: object, names: Sequence[str]) -> str:
    """A value of `output` for the message: the last of these entries, or a function for one inside another."""
    name = names[-1] if names else "logits"
    if "[" in name:
        return "function_of_the_output"
    return name if isinstance(result, Sequence) and name.isdecimal() else repr(name)


def _score_maps(entries: Mapping[str, object], images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The entries, and those inside them, that can be logits: `(B, K, h, w)` of the images."""
    for name, value in entries.items():
        if isinstance(value, Mapping | list | tuple):
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            yield from _score_maps({f"{name}[{key!r}]": part for key, part in parts}, images)
        elif isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4:
            size, full = (value.shape[2], value.shape[3]), (images.shape[2], images.shape[3])
            if len(value) == len(images) and _is_scaled(size, full):
                yield name, value


def _position(output: int, result: object) -> str:
    """The name of a position among the entries; negative ones count from the end."""
    return str(output + len(result) if output < 0 and isinstance(result, Sequence) else output)


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
    if got[1] < 1:
        raise ValueError(f"{expected} with K >= 1")


def _is_scaled(size: tuple[int, ...], full: tuple[int, int]) -> bool:
    """Whether `size` is `full` divided by one factor, up to the rounding of each side."""
    (low_h, low_w), (height, width) = size, full
    if not (
        height <= _MAX_REDUCTION * low_h and width <= _MAX_REDUCTION * low_w and low_h <= height and low_w <= width
    ):
        return False
    return abs(low_h * width - low_w * height) <= height + width
