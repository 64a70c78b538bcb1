"""Records what modules are called with, and what they return."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

_DEEPEST = 4
"""Calls nested deeper are not recorded."""

LARGEST_IMAGE, _POSITIONS = 16, 32
"""Tensors with more channels are activations, recorded at 32 x 32 positions only: all would fill the memory."""


@dataclass
class Call:
    """One call of a module.

    Attributes:
        module: what was called.
        images: a copy of the first tensor `(B, C, H, W)` among its arguments, on a grid of positions if it has many
            channels; None without one.
        output: the first such tensor of its output; None without one.
        is_plain: whether the output is that tensor, and not a container with it.
        inner: calls that this one made.
    """

    module: nn.Module
    images: Tensor | None = None
    output: Tensor | None = None
    is_plain: bool = False
    inner: list["Call"] = field(default_factory=list)

    def walk(self) -> Iterator["Call"]:
        """This call and those inside, outer ones first."""
        yield self
        for call in self.inner:
            yield from call.walk()


def _nothing(*args: object) -> None:
    del args


@contextmanager
def recorded(
    modules: Iterable[nn.Module],
    ended: Callable[[Call], object] = _nothing,
    returned: Callable[[nn.Module, object], object] = _nothing,
) -> Iterator[list[Call]]:
    """Records the calls of some modules, by `module(...)` and by `module.forward(...)`; gives the outermost ones.

    Hooks would miss direct calls of `forward`, and would remain in compiled graphs.

    Args:
        modules: what is watched; each gets its own `forward` back.
        ended: called after every outermost call; what it calls itself is not recorded.
        returned: called after every recorded call, with the module and its own output.
    """
    outermost: list[Call] = []
    running: list[Call] = []
    found: list[tuple[nn.Module, Any]] = []
    ending = False

    def watch(module: nn.Module) -> None:
        forward = module.forward
        found.append((module, module.__dict__.get("forward")))

        def watched(*args: Any, **kwargs: Any) -> Any:
            nonlocal ending
            if ending or len(running) >= _DEEPEST or any(call.module is module for call in running):
                return forward(*args, **kwargs)
            call = Call(module, _images_in((args, kwargs)))
            (running[-1].inner if running else outermost).append(call)
            running.append(call)
            try:
                output = forward(*args, **kwargs)
            finally:
                running.pop()
            call.output, call.is_plain = _images_in(output), isinstance(output, Tensor)
            returned(module, output)
            if not running:
                ending = True
                try:
                    ended(call)
                finally:
                    ending = False
            return output

        module.__dict__["forward"] = watched

    try:
        for module in {id(module): module for module in modules}.values():
            watch(module)
        yield outermost
    finally:
        for module, forward in found:
            del module.__dict__["forward"]
            if forward is not None:
                module.__dict__["forward"] = forward


def _images_in(value: object) -> Tensor | None:
    """A copy of the first tensor with four dimensions in nested containers, in float32."""
    if isinstance(value, Tensor):
        if value.ndim != 4 or value.dtype == torch.bool:
            return None
        value = value.detach()
        if value.shape[1] > LARGEST_IMAGE:
            rows, columns = (1 + size // _POSITIONS for size in value.shape[2:])
            value = value[:, :, ::rows, ::columns]
        return value.to(torch.float32, copy=True)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return next((images for part in parts if (images := _images_in(part)) is not None), None)
