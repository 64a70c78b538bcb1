"""What identifies an attack, a loss or targets: the values of all their fields, in one line of text."""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Final

import numpy as np
import torch
from torch import Tensor

_EXACT: Final = (
    NoneType, bool, int, float, complex, str, bytes, range, enum.Enum, Fraction, PurePath, np.generic,
    torch.dtype, torch.device,
)  # fmt: skip
"""Types whose repr gives the value back."""


def identity_digest(text: str) -> str:
    """16 hex digits of the SHA-256 of an identity."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def identity(value: object) -> str:
    """One line that two objects share only where all their settings are equal.

    A dataclass is its class and all its fields, those without repr and without comparison too; where no field is hidden
    or lossy, this is its repr. Classes of other packages have their module before their name. Tensors and arrays are
    their type, shape and the digest of their bytes. A class with an attribute or method `identity` says it itself.

    Args:
        value: an attack, a criterion, a loss, targets, or a value of their fields.

    Raises:
        ValueError: a value that does not say what its settings are; the message names it and the fix.

    Examples:
        >>> from segrobust.attacks import FGSM
        >>> identity(FGSM(eps=0.5)) == repr(FGSM(eps=0.5))
        True
    """
    own = None if isinstance(value, type) else getattr(value, "identity", None)
    if own is not None:
        text = own() if callable(own) else own
        if not isinstance(text, str) or not text:
            raise ValueError(f"identity of {_class_name(type(value))} must be a text that is not empty, got {text!r}")
        return text
    return identity_of_fields(value)


def identity_of_fields(value: object) -> str:
    """The same without asking the object itself: for a class that extends the identity of its fields."""
    if isinstance(value, _EXACT):
        return repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        _require_no_more_than_fields(value)
        inner = ", ".join(f"{field.name}={_part(value, field.name)}" for field in fields(value))
        return f"{_class_name(type(value))}({inner})"
    if isinstance(value, Tensor):
        tensor = value.detach().cpu().contiguous()
        return _identity_of_bytes("tensor", tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).numpy())
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _identity_of_bytes("array", value.dtype, value.shape, np.ascontiguousarray(value))
    if isinstance(value, tuple | list | set | frozenset | Mapping):
        return _identity_of_collection(value)
    if isinstance(value, type):
        return _class_name(value)
    if isinstance(value, FunctionType | BuiltinFunctionType) and value.__qualname__.isidentifier():  # no lambda
        return f"{value.__module__}.{value.__qualname__}"
    raise ValueError(
        f"results are identified by the settings of an attack, and {_class_name(type(value))} does not give its own "
        f"(its repr is {_shortened(value)}): make it a frozen dataclass whose fields are all its settings, or give it "
        "a method identity() -> str that names them"
    )


def _part(owner: object, name: str) -> str:
    try:
        return identity(getattr(owner, name))
    except ValueError as error:
        raise ValueError(f"{type(owner).__qualname__}.{name}: {error}") from error


def _require_no_more_than_fields(value: object) -> None:
    """Refuses settings beside the fields: a subclass that is no dataclass itself, an `InitVar` that was stored."""
    names = {field.name for field in fields(value)}  # type: ignore[arg-type]  # a dataclass, as the caller has seen
    more = [
        name
        for name in getattr(value, "__dict__", {})
        if name not in names and not isinstance(getattr(type(value), name, None), cached_property)
    ]
    if more:
        raise ValueError(
            f"results are kept by the fields of an attack, and {_class_name(type(value))} has attributes that are no "
            f"fields: {', '.join(more)}; declare them, with @dataclass(frozen=True, kw_only=True) before the class, "
            "or give it a method identity() -> str that names all settings"
        )


def _identity_of_collection(value: object) -> str:
    """Collections of the standard library, written as their repr is."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{identity(key)}: {identity(item)}" for key, item in value.items())
        return f"{{{inner}}}" if type(value) is dict else f"{_class_name(type(value))}({{{inner}}})"
    assert isinstance(value, tuple | list | set | frozenset)
    items = [identity(item) for item in value]
    if isinstance(value, set | frozenset):
        return f"{type(value).__qualname__}({{{', '.join(sorted(items))}}})"
    if isinstance(value, list):
        return f"[{', '.join(items)}]"
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def _identity_of_bytes(kind: str, dtype: object, shape: tuple[int, ...], content: np.ndarray) -> str:
    return f"{kind}({dtype}, {tuple(shape)}, sha256:{hashlib.sha256(content.tobytes()).hexdigest()[:16]})"


def _class_name(kind: type) -> str:
    """The name of a class, with its module where it is not of this package."""
    ours = kind.__module__.split(".")[0] in ("segrobust", "__main__", "builtins")
    return kind.__qualname__ if ours else f"{kind.__module__}.{kind.__qualname__}"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
