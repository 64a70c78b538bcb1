"""The state in which a network is attacked, and its exact restoration."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Puts all sub-modules of a network into evaluation mode, and gives each its own mode back.

    Examples:
        >>> network = torch.nn.Dropout()
        >>> with evaluation_mode(network):
        ...     network.training
        False
        >>> network.training
        True
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def attackable(network: nn.Module) -> Iterator[None]:
    """Puts a network into the state in which attacks see it, and restores what it found.

    Inside: evaluation mode, no parameter asks for gradients, gradients are recorded even under `no_grad` or
    `inference_mode`, autocast and TF32 (or other reduced-precision matrix products) are off. On leaving, each
    sub-module gets back its own mode and each parameter its own flag. A compiled network keeps its parameter flags: a
    change of them can make it reuse a wrong graph.

    Tensors made under `inference_mode` must be cloned inside before they take part in a graph.

    Args:
        network: the module whose input is attacked.

    Examples:
        >>> network = torch.nn.Conv2d(3, 5, 1)
        >>> with torch.no_grad(), attackable(network):
        ...     network.weight.requires_grad, torch.is_grad_enabled()
        (False, True)
        >>> network.weight.requires_grad
        True
    """
    compiled = any(is_compiled(module) for module in network.modules())
    flags = [] if compiled else [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with contextlib.ExitStack() as stack:
            stack.enter_context(evaluation_mode(network))
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            devices = {"cpu", *(parameter.device.type for parameter in network.parameters())}
            if torch.cuda.is_available():
                devices.add("cuda")  # a network without parameters may compute there too
            for device in devices:
                stack.enter_context(torch.autocast(device, enabled=False))
            stack.enter_context(full_precision_products())
            yield
    finally:
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)


def is_compiled(module: nn.Module) -> bool:
    """Whether a module came out of `torch.compile`, or was compiled in place.

    Examples:
        >>> network = torch.nn.Conv2d(3, 2, 1)
        >>> is_compiled(network), is_compiled(torch.compile(network, backend="eager"))
        (False, True)
    """
    # Before the compiler is imported nothing can be its product; importing it to ask would take seconds.
    dynamo = sys.modules.get("torch._dynamo")
    wrapped = dynamo is not None and isinstance(module, dynamo.OptimizedModule)
    return wrapped or module._compiled_call_impl is not None


@contextlib.contextmanager
def full_precision_products() -> Iterator[None]:
    """Turns TF32 and bfloat16 shortcuts of float32 matrix products and convolutions off, and restores the settings.

    TF32 rounds inputs to about 0.1/255 of an image's range, more than a step of a minimal-norm attack.

    Examples:
        >>> with full_precision_products():
        ...     torch.backends.cuda.matmul.fp32_precision
        'ieee'
    """
    cudnn: Any = torch.backends.cudnn  # their type stubs lack the settings per operator
    mkldnn: Any = torch.backends.mkldnn
    backends: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv]
    found = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, found, strict=True):
            backend.fp32_precision = precision
