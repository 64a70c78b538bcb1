"""Learning rates by part of the network, as for a pretrained encoder under a new decoder."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from segrobust.networks.checkpoints import WRAPPERS


def check_scales(network: nn.Module, scales: Mapping[str, float]) -> dict[str, float]:
    """Factors by start of name, checked.

    Raises:
        ValueError: a start that no parameter has, or a factor that is not positive.
    """
    names = [_bare(name) for name, _ in network.named_parameters()]
    for start, factor in scales.items():
        if not factor > 0:
            raise ValueError(f"lr_scale[{start!r}] must be positive, got {factor}; freeze parameters by requires_grad")
        if not any(_is_under(name, start) for name in names):
            tops = sorted({name.split(".")[0] for name in names})
            raise ValueError(f"lr_scale names {start!r}, but parameters of the network start with {', '.join(tops)}")
    return dict(scales)


def parameter_groups(network: nn.Module, scales: Mapping[str, float]) -> list[dict[str, Any]]:
    """Trainable parameters, in non-empty groups for an optimiser, each with its factor as `lr_scale`."""
    groups: dict[str, list[nn.Parameter]] = {"": []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            fitting = [start for start in scales if _is_under(_bare(name), start)]
            groups.setdefault(max(fitting, key=len, default=""), []).append(parameter)
    return [
        {"params": parameters, "lr_scale": scales.get(start, 1.0)} for start, parameters in groups.items() if parameters
    ]


def _bare(name: str) -> str:
    """A parameter's name without those of the wrappers around its network."""
    wrapper = next((prefix for prefix in WRAPPERS if name.startswith(prefix)), None)
    return name if wrapper is None else _bare(name.removeprefix(wrapper))


def _is_under(name: str, start: str) -> bool:
    return name == start or name.startswith(f"{start}.")
