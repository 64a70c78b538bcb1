"""Full resolution in bounded memory: logits averaged over windows, gradients recomputed window by window."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segrobust.functional.logits import require_logits
from segrobust.inputs import NO_GRADIENT
from segrobust.networks.network_wrapper import NetworkWrapper
from segrobust.networks.query_network import QueryNetwork

Place: TypeAlias = tuple[int, slice, slice]
"""A window of a batch: image, rows and columns."""


class SlidingWindow(NetworkWrapper):
    """A network that sees an image through overlapping windows, whose logits are averaged where they overlap.

    Windows stand `stride` apart; the last one of each direction is shifted back inside, and an image smaller than a
    window is one window of its own size. This is the usual sliding-window inference of segmentation, and its output is
    an ordinary differentiable function of the image: attacks and evaluations need to know nothing of it.

    Around a `QueryNetwork`, whose logits are ln S, the scores S are averaged, and the result is the logarithm of their
    mean. The original code of EoMT does so, and so does mmsegmentation for Mask2Former.

    Where gradients are wanted, the forward pass keeps the image alone, and the backward pass runs each window again
    before it is differentiated. The gradient is that of the averaged logits, not an approximation, and peak memory
    follows the window: one window's graph, and the logits at full resolution once. A backward pass costs one forward
    pass more. Random numbers, autocast and the order of windows are the same in both runs. Second derivatives are not
    available.

    An image that fits into one window goes straight through the network, in one pass with its batch and without a
    second run. While any part of the network is in training mode, where batch statistics and dropout would differ from
    run to run, all graphs are kept instead: train on crops of one window.

    Args:
        network: maps windows `(B, C, h, w)` to logits `(B, K, h, w)` of the same height and width, such as
            `FullResolution(my_network, stride=32)`.
        window: height and width of a window, in pixels.
        stride: rows and columns from one window to the next; two thirds of the window by default.
        windows_per_pass: windows of one image that go through the network together. More are faster on an accelerator,
            and need as many times the memory.
        recompute: False keeps the graphs of all windows: the backward pass is faster, and memory follows the image.

    Raises:
        TypeError: `network` is not an `nn.Module`, or sizes and counts are not whole numbers.
        ValueError: a size or count below 1, or a stride that would leave gaps between windows.
    """

    def __init__(
        self,
        network: nn.Module,
        window: Sequence[int] = (512, 512),
        stride: Sequence[int] | None = None,
        windows_per_pass: int = 1,
        recompute: bool = True,
    ) -> None:
        super().__init__(network)
        self.window = _pair("window", window)
        usual = tuple(max(2 * side // 3, 1) for side in self.window)
        self.stride = usual if stride is None else _pair("stride", stride)
        if any(step > side for step, side in zip(self.stride, self.window, strict=True)):
            raise ValueError(
                f"stride={self.stride} leaves gaps between windows of {self.window}: it must not be larger"
            )
        (self.windows_per_pass,) = _whole_numbers("windows_per_pass", (windows_per_pass,))
        self.recompute = recompute
        self._of_scores = any(isinstance(module, QueryNetwork) for module in network.modules())

    def forward(self, images: Tensor) -> Tensor:
        """Gives the averaged logits, in float32 at least: `(B, C, H, W) -> (B, K, H, W)`.

        Raises:
            TypeError: the network does not return a tensor.
            ValueError: the images are no batch, or the network's logits do not have the size of the window.
        """
        if images.ndim != 4:
            raise ValueError(f"images must have the shape (B, C, H, W), got {tuple(images.shape)}")
        settings = (self.window, self.stride, self.windows_per_pass, self._of_scores)
        windows = _Windows(self.network, tuple(images.shape), *settings)
        if windows.single:
            return windows.logits_of(images)
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if self._recomputes() and (images.requires_grad or parameters):
            averaged: Tensor = _Recomputed.apply(images, windows, *parameters)
            return averaged
        return windows.average(images)

    def extra_repr(self) -> str:
        """Shows the settings that the logits depend on."""
        return f"window={self.window}, stride={self.stride}" + (", mean of scores" if self._of_scores else "")

    def _recomputes(self) -> bool:
        """Whether a second run of a window is wanted, and gives what the first one gave."""
        wanted = self.recompute and torch.is_grad_enabled()
        return wanted and not any(module.training for module in self.network.modules())


@dataclass(frozen=True)
class _Windows:
    """The windows of a batch and the network that sees them.

    Attributes:
        network: maps windows to logits.
        shape: that of the batch, `(B, C, H, W)`.
        window: largest height and width of a window.
        stride: distance of windows.
        per_pass: windows that go through the network together, all of one image: what an image's logits are made of
            does not depend on its batch.
        of_scores: whether logits are logarithms of the scores that are averaged.
    """

    network: nn.Module
    shape: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    per_pass: int
    of_scores: bool

    @cached_property
    def intervals(self) -> tuple[list[slice], list[slice]]:
        """Rows and columns of the windows."""
        rows, columns = (_intervals(*sides) for sides in zip(self.shape[2:], self.window, self.stride, strict=True))
        return rows, columns

    @property
    def single(self) -> bool:
        """Whether one window holds the image."""
        rows, columns = self.intervals
        return len(rows) == len(columns) == 1

    @property
    def passes(self) -> Iterator[list[Place]]:
        """Windows that go through the network together, in the order in which they do."""
        rows, columns = self.intervals
        for image in range(self.shape[0]):
            places = [(image, r, c) for r in rows for c in columns]
            for first in range(0, len(places), self.per_pass):
                yield places[first : first + self.per_pass]

    def counts(self, like: Tensor) -> Tensor:
        """How many windows show each pixel: `(H, W)`."""
        rows, columns = (like.new_zeros(side) for side in self.shape[2:])
        for shown, intervals in zip((rows, columns), self.intervals, strict=True):
            for interval in intervals:
                shown[interval] += 1
        return rows[:, None] * columns

    def logits_of(self, crops: Tensor) -> Tensor:
        """The network's logits of some windows, checked, in float32 at least."""
        logits = require_logits(self.network(crops), crops)
        return logits if logits.dtype == torch.float64 else logits.float()

    def average(self, images: Tensor) -> Tensor:
        """Logits averaged over windows: `(B, C, H, W) -> (B, K, H, W)`."""
        total: Tensor | None = None
        for places in self.passes:
            logits = self.logits_of(_crops(images, places))
            if total is None:
                shape = (self.shape[0], logits.shape[1], *self.shape[2:])
                total = logits.new_full(shape, -math.inf if self.of_scores else 0.0)
            _add(total, places, logits, of_scores=self.of_scores)
        if total is None:
            raise ValueError(f"images must not be empty, got shape {self.shape}")
        counts = self.counts(total)
        return total.sub_(counts.log()) if self.of_scores else total.div_(counts)

    def cotangents(self, places: list[Place], logits: Tensor, average: Tensor | None, cotangent: Tensor) -> Tensor:
        """Cotangents of some windows' logits: `(n, K, h, w)`.

        Args:
            places: of the windows.
            logits: of the windows, `(n, K, h, w)`.
            average: what `average` gave, `(B, K, H, W)`; None where logits are averaged, whose weights are equal.
            cotangent: of the average, `(B, K, H, W)`.
        """
        counts = self.counts(cotangent)
        due = torch.stack([cotangent[i, :, r, c] / counts[r, c] for i, r, c in places])
        if average is None:
            return due
        level = _crops(average, places).clamp_min(torch.finfo(average.dtype).min)  # -inf of an excluded class gives NaN
        return due * (logits.detach() - level).exp()


class _Recomputed(torch.autograd.Function):
    """`_Windows.average` that keeps its input and its result alone, and runs each window again to differentiate it."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, windows: _Windows, *parameters: Tensor) -> Tensor:
        ctx.windows, ctx.surroundings = windows, _Surroundings(images.device)
        with ctx.surroundings.autocast():
            average = windows.average(images)
        ctx.save_for_backward(images, average if windows.of_scores else None, *parameters)
        return average

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        images, average, *parameters = ctx.saved_tensors
        windows: _Windows = ctx.windows
        to_images = torch.zeros_like(images) if ctx.needs_input_grad[0] else None
        to_parameters: list[Tensor | None] = [None] * len(parameters)
        with ctx.surroundings.restored():
            for places in windows.passes:
                crops = _crops(images.detach(), places).requires_grad_(to_images is not None)
                logits = _run_again(windows, crops)
                due = windows.cotangents(places, logits, average, cotangent)
                to_crops, *found = _pullback(logits, crops, parameters, due)
                if to_images is not None and to_crops is not None:
                    _add(to_images, places, to_crops)
                to_parameters = [_sum(old, new) for old, new in zip(to_parameters, found, strict=True)]
        return to_images, None, *to_parameters


class _Surroundings:
    """Random numbers and autocast as a forward pass meets them, for a second run in a backward pass."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu_state = torch.get_rng_state()
        self._cuda_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._autocast = [
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in {"cpu", device.type}
        ]

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Autocast as it was, without the cache: weights that were cast without a graph would be found in the next."""
        with contextlib.ExitStack() as stack:
            for kind, dtype, enabled in self._autocast:
                stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False))
            yield

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """The same autocast and the same random numbers again; those of the caller go on where they were."""
        with torch.random.fork_rng([] if self._cuda_state is None else [self._device]), self.autocast():
            torch.set_rng_state(self._cpu_state)
            if self._cuda_state is not None:
                torch.cuda.set_rng_state(self._cuda_state, self._device)
            yield


def _intervals(side: int, window: int, stride: int) -> list[slice]:
    """Windows over one direction: `stride` apart, the last one shifted back inside."""
    starts = [*range(0, side - window, stride), max(side - window, 0)]
    return [slice(start, min(start + window, side)) for start in starts]


def _crops(images: Tensor, places: list[Place]) -> Tensor:
    """Some windows of a batch: `(n, C, h, w)`."""
    return torch.stack([images[i, :, rows, columns] for i, rows, columns in places])


def _add(total: Tensor, places: list[Place], values: Tensor, *, of_scores: bool = False) -> None:
    """Adds the values of some windows to a batch, in place; or, of logarithms, what they are the logarithms of."""
    for (i, rows, columns), value in zip(places, values, strict=True):
        part = total[i, :, rows, columns]
        if of_scores:
            part.copy_(torch.logaddexp(part.clone(), value))
        else:
            part.add_(value)


def _run_again(windows: _Windows, crops: Tensor) -> Tensor:
    """Logits of some windows with their graph."""
    with torch.enable_grad():
        logits = windows.logits_of(crops.clone())  # no leaf: a network may write to its input
    if not logits.requires_grad:
        raise ValueError(NO_GRADIENT)
    return logits


def _pullback(logits: Tensor, crops: Tensor, parameters: list[Tensor], due: Tensor) -> list[Tensor | None]:
    """Vector-Jacobian products of the logits of some windows, to these and to parameters; None for zero."""
    inputs = [crops, *parameters] if crops.requires_grad else parameters
    found = torch.autograd.grad(logits, inputs, due, allow_unused=True)
    return [*found] if crops.requires_grad else [None, *found]


def _sum(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    """Sum of gradients, of which None is zero."""
    if old is None or new is None:
        return new if old is None else old
    return old + new


def _pair(name: str, value: Sequence[int]) -> tuple[int, ...]:
    """Height and width, checked."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be (height, width) in pixels, got {value!r}")
    if len(value) != 2:
        raise ValueError(f"{name} must be (height, width) in pixels, got {value!r}")
    return _whole_numbers(name, value)


def _whole_numbers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} is in whole numbers, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return tuple(values)
