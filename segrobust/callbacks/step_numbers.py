"""The numbers that a step of a LightningModule gives: those that it logs, returns, and keeps."""

from collections.abc import Container, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

_MOST_VALUES = 2**16
"""Larger tensors are pictures and maps, not counts."""

_NO_NUMBERS = (bool, str, bytes, type, ModuleType, FunctionType)
_DEEPEST = 5
_MOST_ITEMS = 100


def numbers_in(value: Any, name: str) -> dict[str, float]:
    """Numbers in nested containers, and in what torchmetrics computes.

    A tensor counts by its sum and, if it is square as a confusion matrix, by its trace.

    Args:
        value: anything.
        name: of it.
    """
    return dict(_walk(value, name, _DEEPEST, set()))


def kept_numbers(module: nn.Module, shared: Container[int]) -> dict[str, float]:
    """Numbers in the attributes of a module and of its parts.

    Args:
        module: a LightningModule.
        shared: ids of objects that are left out.
    """
    return dict(_walk(module, "kept", 2 * _DEEPEST, {id(module.__dict__.get("_trainer"))}, shared))


def _walk(
    value: Any, name: str, depth: int, seen: set[int], shared: Container[int] = ()
) -> Iterator[tuple[str, float]]:
    if id(value) in seen or id(value) in shared or depth == 0 or isinstance(value, _NO_NUMBERS):
        return
    if isinstance(value, Tensor | np.ndarray | np.generic):
        yield from _of_tensor(value, name)
    elif isinstance(value, int | float):
        yield name, float(value)
    else:
        seen.add(id(value))
        if isinstance(value, Metric) and not name.startswith("kept"):
            value = _computed(value)
        for key, item in _items(value):
            yield from _walk(item, f"{name}.{key}", depth - 1, seen, shared)


def _items(value: Any) -> list[tuple[Any, Any]]:
    """The parts of a container, or the attributes of an object of a project."""
    if isinstance(value, Mapping):
        return [*value.items()][:_MOST_ITEMS]
    if isinstance(value, list | tuple | set):
        return [*enumerate(value)][:_MOST_ITEMS]
    return [*getattr(value, "__dict__", {}).items()]


def _computed(metric: Any) -> Any:
    """What a metric computes, in a list; nothing if it cannot yet."""
    try:
        return [metric.compute()]
    except Exception:  # of a metric of a project
        return []


def _of_tensor(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if not isinstance(value, Tensor):
        value = np.asarray(value)
        if value.dtype.kind not in "iuf":
            return
        value = torch.from_numpy(value.astype(np.float64))
    if not 0 < value.numel() <= _MOST_VALUES or value.is_complex():
        return
    array = value.detach().double().cpu()
    yield f"{name} (sum)", float(array.sum())
    if array.ndim == 2 and array.shape[0] == array.shape[1]:
        yield f"{name} (trace)", float(array.trace())
