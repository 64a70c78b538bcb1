"""The only access of an attack to a network; it counts passes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol, Self

import torch
from torch import Tensor, nn

from segrobust.functional.logits import require_class_logits
from segrobust.inputs import NO_GRADIENT, explain_backward, explain_refusals

_listener: Final[ContextVar[Callable[[int], object] | None]] = ContextVar("pass_listener", default=None)


@contextmanager
def passes_reported(listener: Callable[[int], object]) -> Iterator[None]:
    """Within it, every forward and every backward pass of a `NetworkOracle` is reported, also inside wrappers.

    Args:
        listener: called after each pass with its number of images.

    Examples:
        >>> passes = []
        >>> with passes_reported(passes.append):
        ...     oracle = NetworkOracle(nn.Conv2d(3, 2, 1), torch.zeros(4, 3, 2, 2))
        ...     gradient = oracle.pullback(torch.ones_like(oracle.logits(torch.zeros(4, 3, 2, 2))))
        >>> passes
        [4, 4]
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@dataclass(frozen=True)
class PassCounter:
    """Passes spent on each image of a batch: `(B,)` int64 on CPU."""

    forwards: Tensor
    backwards: Tensor

    @classmethod
    def zeros(cls, batch_size: int) -> Self:
        """A counter at zero for a batch."""
        return cls(torch.zeros(batch_size, dtype=torch.int64), torch.zeros(batch_size, dtype=torch.int64))


class GradientOracle(Protocol):
    """The only access of an attack to a network.

    `select` gives the oracle of some of the images, with the same counter. A pending `pullback` can be called on it,
    for those images.
    """

    counter: PassCounter

    def logits(self, delta: Tensor, *, differentiable: bool = True) -> Tensor:
        """Logits of the perturbed images: `(B, C, H, W) -> (B, K, H, W)`, detached from the network.

        Args:
            delta: perturbations inside the box.
            differentiable: whether a `pullback` will follow; False saves the graph's memory.
        """
        ...

    def pullback(self, cotangent: Tensor) -> Tensor:
        """Vector-Jacobian product of the last `logits` with respect to delta: `(B, K, H, W) -> (B, C, H, W)`.

        It can be called once after each `logits`, before the next one.
        """
        ...

    def select(self, rows: Tensor) -> Self:
        """The oracle of the images `rows` (int64 on CPU)."""
        ...


class NetworkOracle:
    """White-box access to a network: its own logits and gradient, in the precision of the images.

    A network may exclude a class by a logit of -inf. No attack sees it: if the first logits contain -inf, these and all
    later ones are kept above `floor`, a value of each image that is too low to win or to matter in a softmax.

    Attributes:
        floor: `(B, 1, 1, 1)`; None before the first logits, and if none of these is -inf.

    Args:
        network: maps images `(B, C, H, W)` in [0, 1] to logits `(B, K, H, W)` of the same height and width.
        images: `(B, C, H, W)` clean images.
        counter: counts the passes; a new one by default.
        rows: `(B,)` positions of these images in the counter.
    """

    def __init__(
        self, network: nn.Module, images: Tensor, *, counter: PassCounter | None = None, rows: Tensor | None = None
    ) -> None:
        self.counter = counter or PassCounter.zeros(images.shape[0])
        self._network = network
        self._images = images
        self._rows = torch.arange(images.shape[0]) if rows is None else rows
        self._pass: _Pass | None = None
        self.floor: Tensor | None = None
        self._knows_floor = False

    def logits(self, delta: Tensor, *, differentiable: bool = True) -> Tensor:
        """See `GradientOracle`."""
        self._pass = None  # frees the last graph before the next forward
        leaf = delta.detach().requires_grad_(differentiable)
        with torch.set_grad_enabled(differentiable):
            adv = self._images + leaf  # no leaf: a network may write to its input
            with explain_refusals(self._network, self._images):
                output = self._network(adv)
        output = require_class_logits(output, self._images)
        if differentiable:
            self._pass = _Pass(leaf, output, None)
        self.counter.forwards[self._rows] += 1
        self._report()
        logits = output.detach().to(self._images.dtype)
        if not self._knows_floor:
            self.floor, self._knows_floor = _floor_of(logits), True
        return logits if self.floor is None else logits.clamp_min(self.floor)

    def pullback(self, cotangent: Tensor) -> Tensor:
        """See `GradientOracle`."""
        if self._pass is None:
            raise RuntimeError("call logits(differentiable=True) once before each pullback()")
        recorded, self._pass = self._pass, None
        if not recorded.output.requires_grad:
            raise ValueError(NO_GRADIENT)
        self.counter.backwards[self._rows] += 1
        gradient = recorded.pullback(cotangent.to(recorded.output.dtype))
        self._report()
        return gradient

    def select(self, rows: Tensor) -> "NetworkOracle":
        """See `GradientOracle`."""
        on_device = rows.to(self._images.device)
        chosen = NetworkOracle(self._network, self._images[on_device], counter=self.counter, rows=self._rows[rows])
        if self._pass is not None:
            chosen._pass = self._pass.select(on_device)
        chosen.floor = None if self.floor is None else self.floor[on_device]
        chosen._knows_floor = self._knows_floor
        return chosen

    def _report(self) -> None:
        listener = _listener.get()
        if listener is not None:
            listener(len(self._rows))


@dataclass(frozen=True)
class _Pass:
    """A recorded forward pass from a perturbation; `rows` are the remaining images of it, None for all."""

    delta: Tensor
    output: Tensor
    rows: Tensor | None

    def select(self, rows: Tensor) -> "_Pass":
        return _Pass(self.delta, self.output, rows if self.rows is None else self.rows[rows])

    def pullback(self, cotangent: Tensor) -> Tensor:
        if self.rows is not None:
            cotangent = torch.zeros_like(self.output).index_copy_(0, self.rows, cotangent)
        with explain_backward():
            (gradient,) = torch.autograd.grad(self.output, self.delta, cotangent, allow_unused=True)
        if gradient is None:
            raise ValueError(NO_GRADIENT)
        return gradient if self.rows is None else gradient[self.rows]


def _floor_of(logits: Tensor) -> Tensor | None:
    """What takes the place of -inf in each image, `(B, 1, 1, 1)`, -inf in an image that has none.

    None if no logit of the batch is -inf. Synchronises, once per oracle.

    It lies so far below the finite logits that a softmax gives it less than exp(-40), 4e-18, also where differences are
    divided by a fifth of the mean margin, as in Lagrangian FMN; and not further, because the margins of pixels that are
    labelled with an excluded class enter that mean.
    """
    hidden = logits.isneginf()
    if not hidden.any():
        return None
    lowest = logits.masked_fill(hidden, torch.inf).flatten(1).amin(1)
    span = logits.flatten(1).amax(1) - lowest
    floor = torch.where(hidden.flatten(1).any(1), lowest - 8 * span - 40, -torch.inf)
    return floor[:, None, None, None]
