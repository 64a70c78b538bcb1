"""The published attack, as adv-lib 0.2.8 ships it: a peer to measure against, not a dependency of the toolkit."""

import importlib
import importlib.metadata
import os
from collections.abc import Callable
from types import ModuleType

from torch import Tensor, nn

VERSION = "0.2.8"

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # torch.compile decorates its prox and would need a C++ compiler


def published_alma_prox() -> Callable[..., Tensor]:
    """`alma_prox(network, images, labels, masks=..., num_steps=...) -> adversarial images`, uncompiled."""
    attack: Callable[..., Tensor] = _module().alma_prox
    return attack


def published_pdpgd() -> Callable[..., Tensor]:
    """`pdpgd(network, images, labels, norm=..., masks=..., num_steps=...) -> adversarial images`."""
    attack: Callable[..., Tensor] = _module("primal_dual_gradient_descent").pdpgd
    return attack


def published_dag() -> Callable[..., Tensor]:
    """`dag(network, images, labels, masks=..., max_iter=..., p=...) -> adversarial images`."""
    attack: Callable[..., Tensor] = _module("dense_adversary").dag
    return attack


def published_prox() -> Callable[..., Tensor]:
    """`prox_linf_indicator(delta, weight, lower, upper, H=metric) -> z`, by ternary search."""
    prox: Callable[..., Tensor] = _module().prox_linf_indicator
    return prox


class CalledBefore(nn.Module):
    """A network that calls a function before each pass; the published loop has no other place to look in.

    Args:
        network: what is called.
        before: called with the input of each pass.
    """

    def __init__(self, network: nn.Module, before: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.network = network
        self._before = before

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the network."""
        self._before(images)
        logits: Tensor = self.network(images)
        return logits


def attack_published(
    attack: Callable[..., Tensor], network: nn.Module, images: Tensor, labels: Tensor, **settings: float
) -> tuple[Tensor, int, int]:
    """Adversarial images, forwards and backwards of a published attack."""
    forwards: list[int] = []
    backwards: list[int] = []

    def count(adv: Tensor) -> None:
        forwards.append(1)
        if adv.requires_grad:
            adv.register_hook(lambda _: backwards.append(1))

    adv = attack(CalledBefore(network, count), images, labels, masks=labels != 255, **settings)
    return adv, len(forwards), len(backwards)


def _module(name: str = "alma_prox") -> ModuleType:
    found = importlib.metadata.version("adv-lib")
    if found != VERSION:
        raise ImportError(f"the comparison is with adv-lib {VERSION}, found {found}; pip install adv-lib=={VERSION}")
    return importlib.import_module(f"adv_lib.attacks.segmentation.{name}")
