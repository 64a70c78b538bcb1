"""Published PGD, SegPGD and CosPGD, from the steps that the package cospgd 0.1.3 ships: a peer to measure against.

The package holds a start, a step and the weights of the pixels; its authors' scripts put these into a loop that returns
the last iterate, and so does this one.
"""

import importlib
import importlib.metadata
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VERSION = "0.1.3"

LoopName = Literal["pgd", "segpgd", "cospgd"]


def published_start(images: Tensor, *, norm: Literal["linf", "l2"], eps: float, seed: int) -> Tensor:
    """Images moved to a random point of the ball: uniform in l_inf, on the sphere in l2. Same shapes as there."""
    functions = _functions()
    start = functions.init_linf if norm == "linf" else functions.init_l2
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        adv: Tensor = start(images, eps)
    return adv


def attack_by_loop(
    name: LoopName,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    start: Tensor,
    norm: Literal["linf", "l2"],
    eps: float,
    step_size: float,
    num_steps: int,
) -> tuple[Tensor, int, int]:
    """Adversarial images, forwards and backwards of the published loop.

    Args:
        name: how the cross-entropy of the pixels is weighted; 255 is void.
        network: what is attacked.
        images: `(B, C, H, W)` in [0, 1].
        labels: `(B, H, W)`.
        start: where the loop starts, see `published_start`.
        norm: of the ball.
        eps: its radius.
        step_size: in the units of the norm.
        num_steps: passes.
    """
    functions = _functions()
    step = functions.step_inf if norm == "linf" else functions.step_l2
    adv = start
    for i in range(num_steps):
        adv = adv.detach().requires_grad_()
        logits = network(adv)
        loss = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
        if name == "segpgd":
            loss = functions.segpgd_scale(logits, labels, loss, i, num_steps)
        elif name == "cospgd":
            loss = functions.cospgd_scale(logits, labels, loss, num_classes=logits.shape[1])
        (gradient,) = torch.autograd.grad(loss.mean(), adv)
        adv = step(adv, eps, gradient, images, step_size, targeted=False)
    return adv.detach(), num_steps, num_steps


def _functions() -> Any:
    found = importlib.metadata.version("cospgd")
    if found != VERSION:
        raise ImportError(f"the comparison is with cospgd {VERSION}, found {found}; pip install cospgd=={VERSION}")
    return importlib.import_module("cospgd").functions
