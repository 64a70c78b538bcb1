"""Weights that are NaN or infinite, of a training that diverged or a file that is damaged."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

_SHOWN = 3


def require_finite_weights(network: nn.Module) -> None:
    """Refuses a network whose weights are NaN or infinite.

    Args:
        network: whose parameters and buffers are looked at.

    Raises:
        ValueError: the message names the weights, and how many of their values are NaN or infinite.
    """
    parameters = dict(network.named_parameters(remove_duplicate=False))
    fault = describe_non_finite(parameters | dict(network.named_buffers(remove_duplicate=False)), parameters)
    if fault:
        raise ValueError(f"the network {fault}")


def describe_non_finite(weights: Mapping[str, Tensor], parameters: Collection[str]) -> str:
    """Says which weights are NaN or infinite, and what to do; empty where none are.

    Buffers may hold -inf, as masks of attention do.

    Args:
        weights: parameters and buffers by name.
        parameters: the names of the parameters among them.

    >>> describe_non_finite({"bias": torch.tensor([0.0, torch.nan])}, ["bias"])[:39]
    'holds weights that are NaN or infinite:'
    """
    counts = {name: _count(weight, masks=name not in parameters) for name, weight in weights.items()}
    faults = [f"{name} ({count} of {weights[name].numel()} values)" for name, count in counts.items() if count]
    if not faults:
        return ""
    more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return (
        f"holds weights that are NaN or infinite: {', '.join(faults[:_SHOWN])}{more}; its training diverged, or the "
        f"file is damaged: take an earlier checkpoint"
    )


def _count(weight: Tensor, *, masks: bool) -> int:
    """How many values are NaN or infinite; without -inf if it may be a mask."""
    if not weight.is_floating_point() or weight.device.type == "meta" or bool(weight.isfinite().all()):
        return 0
    excused = weight.isneginf() if masks else torch.zeros_like(weight, dtype=torch.bool)
    return int((~weight.isfinite() & ~excused).sum())
