"""The weights that are validated, kept for the attacks at the end of the validation."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from segrobust.functional.modes import is_compiled


class ValidatedWeights:
    """A copy of the weights and buffers of a network, made when the first step of a validation calls it.

    Callbacks and modules that swap averaged weights in for a validation, or for a step, take them out before or after
    the attacks, as their order has it. With the copy, the attacks see the weights that were validated.
    """

    def __init__(self) -> None:
        self.watching = False
        self._copy: dict[str, Tensor] = {}
        self._watch = ExitStack()

    def watch(self, network: nn.Module, called: nn.Module, surrounding: nn.Module) -> None:
        """Waits for the first call of a network, to copy its weights then.

        Args:
            network: whose weights are copied.
            called: what the validation calls: the network, or a part of it.
            surrounding: the LightningModule; if it has compiled parts nothing is waited for, as their graphs do not
                show calls, and `take` copies the weights. So it does for saved programs.
        """
        self.clear()
        self.watching = True
        if any(is_compiled(part) or getattr(part, "_compiler_ctx", None) for part in surrounding.modules()):
            return
        for part in called.modules():  # a direct call of `called.forward` calls no hook of its own
            if not isinstance(part, torch.jit.ScriptModule):  # takes no hooks
                handle = part.register_forward_pre_hook(lambda *_: self._keep(network))
                self._watch.callback(handle.remove)

    def take(self, network: nn.Module) -> None:
        """Ends the wait, and copies the weights if the network was not called."""
        self._end_watch()
        self._keep(network)

    def differ_from(self, network: nn.Module) -> bool:
        """Whether a network has other weights now than those of the copy, or others by their names."""
        own = _state(network)
        return own.keys() != self._copy.keys() or any(not _equal(own[name], self._copy[name]) for name in own)

    def clear(self) -> None:
        """Drops the copy."""
        self._end_watch()
        self._copy = {}

    def _end_watch(self) -> None:
        self._watch.close()
        self.watching = False

    @contextmanager
    def restored(self, network: nn.Module) -> Iterator[bool]:
        """Puts the copy into a network for a while; gives whether its own weights are others.

        Raises:
            ValueError: the network has other weights by their names or shapes: another one is validated.
        """
        if not self._copy:
            yield False
            return
        own = _state(network)
        if {name: tensor.shape for name, tensor in own.items()} != {n: t.shape for n, t in self._copy.items()}:
            raise ValueError(
                f"network= gives another network at the end of the validation than in its first step: "
                f"{type(network).__name__} has other weights then. Give network= as a function that returns the "
                "validated one at both times"
            )
        changed = [name for name, tensor in own.items() if not _equal(tensor, self._copy[name])]
        saved = {name: own[name].detach().clone() for name in changed}
        try:
            _fill(own, {name: self._copy[name] for name in changed})
            yield bool(changed)
        finally:
            _fill(own, saved)

    def _keep(self, network: nn.Module) -> None:
        if not self._copy:
            with torch.inference_mode(False):
                self._copy = {name: tensor.detach().clone() for name, tensor in _state(network).items()}


def _state(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return dict(chain(network.named_parameters(), network.named_buffers()))


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.device == second.device and torch.equal(first, second)


def _fill(own: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
