"""Networks that can be attacked, and what to write in place of those that cannot; without a forward pass."""

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

NO_GRADIENT = (
    "the logits do not depend on the image differentiably: take `torch.no_grad`, `torch.inference_mode`, `detach`, "
    "`argmax` and NumPy out of its forward pass, and give it the module that was trained rather than an exported, "
    "quantised or compiled-for-inference copy; attacks without gradients (segrobust.attacks.Square) take it as it is"
)
"""What is said of a network that no attack by gradients can follow."""

_UNSHARD = "save the full state dict, and load it into the network without FSDP (segrobust.networks.load_weights)"

_ENSEMBLE = "a module whose forward returns the mean of their logits"

_MODULE = (
    "class Network(torch.nn.Module) that holds the modules as attributes and calls the function in its forward, so "
    "that their weights, mode and device are known"
)


def require_network(network: object, *, by_gradients: bool = True, without_values: bool = False) -> None:
    """Refuses what is no network that can be attacked in float32 or float64.

    Args:
        network: what was given as a network.
        by_gradients: whether an attack will follow the gradient.
        without_values: whether weights may have no values yet (device meta), as a LightningModule's before training.

    Raises:
        TypeError: no module, or one without `forward`; the message says what to write in its place.
        ValueError: weights that are missing, sharded or in 16 bits, or layers without a gradient.
    """
    if not isinstance(network, nn.Module) or isinstance(network, type):
        raise TypeError(f"the network must be a torch.nn.Module, got {_kind(network)}: {_fix(network)}")
    if getattr(network.forward, "__func__", None) is nn.Module.forward:
        raise TypeError(f"the network, {_kind(network)}, has no forward method: {_fix_parts(network)}")
    if not hasattr(network, "training"):
        raise ValueError(
            "the network was frozen for inference (torch.jit.freeze): its weights are constants, without mode or "
            "device; give the scripted module as it was before"
        )
    for name, weight in network.named_parameters():
        fault = None if without_values and weight.device.type == "meta" else _fault_of(weight)
        if fault is not None:
            raise ValueError(f"weights of the network ({name}) {fault}")
    for module in network.modules():
        fault = _fault_of_wrapper(module)
        if fault is not None:
            raise ValueError(f"the network is wrapped in {type(module).__name__}: {fault}")
    quantised = next(_quantised(network), None) if by_gradients else None
    if quantised is not None:
        raise ValueError(
            f"the network holds quantised layers ({quantised}), through which no gradient passes: give the network "
            "as it was before its quantisation; an attack without gradients (segrobust.attacks.Square) takes it"
        )


def _kind(network: Any) -> str:
    if isinstance(network, type):
        return f"the class {network.__name__}"
    if isinstance(network, functools.partial):
        return f"a partial of {getattr(network.func, '__name__', type(network.func).__name__)}"
    if inspect.ismethod(network):
        return f"the method {network.__name__} of {type(network.__self__).__name__}"
    if inspect.isroutine(network):
        return f"the function {network.__name__}"
    return f"a {type(network).__name__}" if not isinstance(network, str) else repr(network)


def _fix(network: Any) -> str:
    """What to write in place of something that is no module."""
    if isinstance(network, type) or (isinstance(network, functools.partial) and isinstance(network.func, type)):
        return "call it, and pass what it makes"
    if inspect.ismethod(network) and isinstance(network.__self__, nn.Module):
        return "pass the module itself"
    if isinstance(network, torch.export.ExportedProgram):
        return "pass network.module()"
    if isinstance(network, Mapping):
        return "these are weights alone; make the network, and load them by segrobust.networks.load_weights"
    if isinstance(network, str) or hasattr(network, "__fspath__"):
        return "make the network, and load the file by segrobust.networks.load_weights or program_network"
    if isinstance(network, tuple | list):
        return "attack one network at a time, or write torch.nn.Sequential(*network) for layers"
    held = next(
        (name for name in ("model", "network", "net") if isinstance(getattr(network, name, None), nn.Module)), ""
    )
    if held:
        return f"pass the module that it holds, its attribute {held}"
    return f"write a {_MODULE}" if callable(network) else "pass a module that maps images to logits"


def _fix_parts(network: nn.Module) -> str:
    """What to write in place of a module that only holds others."""
    if isinstance(network, nn.ModuleList):
        return "write torch.nn.Sequential(*network) for layers, attack one network at a time, or write " + _ENSEMBLE
    if isinstance(network, nn.ModuleDict):
        return f"attack one network at a time, such as network[{next(iter(network), 'name')!r}], or write {_ENSEMBLE}"
    return "define `forward(self, images)`, which returns logits, beside its other methods"


def _fault_of(weight: nn.Parameter) -> str | None:
    """Why a weight cannot be used, and what to do."""
    if is_lazy(weight):
        return "have no shape yet: call the network once on a batch before"
    if weight.device.type == "meta":
        return "are on the device meta and have no values: load them, such as by network.to_empty and load_weights"
    if type(weight).__module__.startswith("torchao"):
        return f"are quantised ({type(weight).__name__}): give the network as it was before its quantisation"
    if type(weight).__name__ == "DTensor":
        return f"are sharded: {_UNSHARD}"
    if weight.dtype in (torch.float16, torch.bfloat16):
        return f"are in {weight.dtype}, in which a perturbation of 1/255 is lost: pass network.float()"
    return None


def _fault_of_wrapper(module: Any) -> str | None:
    """Why a module of several processes cannot be attacked: their numbers of passes differ, and they would wait."""
    name = type(module).__name__
    if name == "FullyShardedDataParallel" and module.sharding_strategy.name != "NO_SHARD":
        return _UNSHARD
    if isinstance(module, nn.parallel.DistributedDataParallel) and module.process_group.size() > 1:
        return (
            "its processes wait for each other in every pass, and attacks differ in their passes; pass network.module"
        )
    return None


def _quantised(network: nn.Module) -> Iterator[str]:
    """Layers of torch's quantisation."""
    for name, module in network.named_modules():
        path = type(module).__module__
        if path.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")):
            yield f"{type(module).__name__} at {name!r}"
