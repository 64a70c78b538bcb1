"""What networks return besides a tensor, and how messages show it."""

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

_USUAL_NAMES = ("logits", "out")
"""Output objects of transformers, and torchvision's dictionary."""


def entries_of(result: object) -> dict[str, object]:
    """The entries of a mapping, the items of a sequence by position (and by name), or the attributes of an object.

    Examples:
        >>> entries_of({"out": 1}), entries_of([2, 3])
        ({'out': 1}, {'0': 2, '1': 3})
    """
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items()}
    if isinstance(result, Sequence) and not isinstance(result, str):
        named = dict(zip(field_names(result), result, strict=False))
        return {str(position): value for position, value in enumerate(result)} | named
    if dataclasses.is_dataclass(result):  # those with slots have no __dict__
        return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return {name: value for name, value in getattr(result, "__dict__", {}).items() if not name.startswith("_")}


def field_names(result: object) -> tuple[str, ...]:
    """Names of the items of a named tuple, none of other objects.

    Examples:
        >>> import collections
        >>> field_names(collections.namedtuple("Output", "main auxiliary")(1, 2)), field_names((1, 2))
        (('main', 'auxiliary'), ())
    """
    return tuple(getattr(result, "_fields", ()))


def listed(entries: Mapping[str, object]) -> str:
    """Names with shapes or types, for messages.

    Examples:
        >>> import torch
        >>> print(listed({"out": torch.zeros(1, 3, 8, 8), "extra": None}))
        'out' (1, 3, 8, 8), 'extra' NoneType
    """
    return ", ".join(f"{name!r} {_described(value)}" for name, value in entries.items()) or "nothing in it"


def _described(value: object) -> str:
    """`(2, 21, 64, 64)`, `[(2, 21, 64, 64), (2, 21, 32, 32)]` or the name of a type."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, list | tuple):
        return f"[{', '.join(_described(part) for part in value)}]"
    return type(value).__name__


def wrap_advice(result: object) -> str:
    """What to write around a network that returns something else than one tensor.

    Args:
        result: what it returned.

    Examples:
        >>> import torch
        >>> print(wrap_advice([torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4)]))  # doctest: +ELLIPSIS
        wrap it in ... say which entry holds the logits, of '0' (1, 3, 8, 8), ...: FullResolution(network, output=0)...
    """
    advice = "wrap it in segrobust.networks.FullResolution"
    entries = entries_of(result)
    if not entries:
        return f"{advice} with a function of what it returns: FullResolution(network, output=function)"
    sizes = {name: value.shape[2] for name, value in entries.items() if isinstance(value, Tensor) and value.ndim == 4}
    usual = [name for name in _USUAL_NAMES if name in sizes]
    largest = [name for name, size in sizes.items() if size == max(sizes.values())]
    name = (usual or largest[-1:] or [""])[0]
    shown = name if isinstance(result, Sequence) and name.isdecimal() else repr(name) if name else "function"
    return (
        f"{advice} and say which entry holds the logits, of {listed(entries)}: "
        f"FullResolution(network, output={shown}), for example"
    )
