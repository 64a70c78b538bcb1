"""What networks of libraries return besides a tensor, and how messages show it."""

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

QUERY_NAMES = (
    ("class_queries_logits", "masks_queries_logits"),
    ("pred_logits", "pred_masks"),
    ("logits", "pred_masks"),
)
"""Class and mask logits of queries: in transformers, in the original code, and in transformers' DETR."""


def entries_of(result: object) -> dict[str, object]:
    """The entries of a mapping, the items of a sequence by position (and by name), or the attributes of an object."""
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items()}
    if isinstance(result, Sequence) and not isinstance(result, str):
        named = dict(zip(field_names(result), result, strict=False))
        return {str(position): value for position, value in enumerate(result)} | named
    if dataclasses.is_dataclass(result):  # those with slots have no __dict__
        return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return {name: value for name, value in getattr(result, "__dict__", {}).items() if not name.startswith("_")}


def query_names(entries: Mapping[str, object]) -> tuple[str, str] | None:
    """Names of the class and mask logits of queries, if these are among the entries; they may be None in others."""
    return next((names for names in QUERY_NAMES if all(entries.get(name) is not None for name in names)), None)


def field_names(result: object) -> tuple[str, ...]:
    """Names of the items of a named tuple."""
    return tuple(getattr(result, "_fields", ()))


def listed(entries: Mapping[str, object]) -> str:
    """Names with shapes or types, for messages."""
    return ", ".join(f"{name!r} {_described(value)}" for name, value in entries.items()) or "nothing in it"


def _described(value: object) -> str:
    """`(2, 21, 64, 64)`, `[(2, 21, 64, 64), (2, 21, 32, 32)]` or the name of a type."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, list | tuple):
        return f"[{', '.join(_described(part) for part in value)}]"
    return type(value).__name__


def require_name(output: object) -> None:
    """Refuses a function that `repr` could not identify.

    Raises:
        ValueError: a lambda, or an object without a name.
    """
    shown = shown_output(output)
    if "<lambda>" in shown or " at 0x" in shown:
        raise ValueError(
            f"output={shown} has no name that would identify it in a run: define a function by `def` and give that"
        )


def shown_output(output: object) -> str:
    """The choice as `repr` shows it: a function by its module and name, which are the same in every process."""
    name = getattr(output, "__qualname__", None)
    return repr(output) if name is None else f"{getattr(output, '__module__', None)}.{name}"
