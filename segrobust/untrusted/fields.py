"""Values of parsed files, each as the type that it must have.

A reader takes a parsed value and returns it as its type, or raises a `ValueError` that says what is allowed. The error
names no place; `read_fields` puts the name of the field before it, and callers the file.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from segrobust.untrusted.printable import shortened

Reader: TypeAlias = Callable[[object], Any]

LONGEST_TEXT: Final = 2**16
"""Characters of a text without a limit of its own: the identity of an attack that holds others is the longest."""

MOST_COUNTED: Final = 2**40
"""Largest count: sums over as many values as a file may hold fit in 64 bits."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")


def read_fields(value: object, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The fields of an object, each by its reader.

    Args:
        value: a parsed value.
        readers: by name of the field; there must be no other field, and none may be missing.

    Raises:
        ValueError: no object, other fields, or a value that its reader refuses; the message names the field.

    Examples:
        >>> read_fields({"size": 3}, {"size": whole()})
        {'size': 3}
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"an object with fields is needed, got {shortened(value)}")
    differing = sorted(map(str, value.keys() ^ readers.keys()))
    if differing:
        raise ValueError(f"fields are missing or unknown: {shortened(differing)}")
    found = {}
    for name, reader in readers.items():
        try:
            found[name] = reader(value[name])
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error
    return found


def text(longest: int = LONGEST_TEXT) -> Reader:
    """Text of at most so many characters."""

    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"must be text of at most {longest} characters, got {shortened(value)}")
        return value

    return read


def token(value: object) -> str:
    """A name that can be part of a path: letters, digits, `_`, `-` and `.`, which is not the first."""
    if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
        raise ValueError(f"must be letters a to z, digits, '_', '-' and '.', got {shortened(value)}")
    return value


def one_of(*allowed: str | None) -> Reader:
    """One of some texts, or None."""

    def read(value: object) -> str | None:
        if (value is not None and not isinstance(value, str)) or value not in allowed:
            raise ValueError(f"must be one of {', '.join(map(str, allowed))}, got {shortened(value)}")
        return value

    return read


def whole(least: int = 0, most: int = MOST_COUNTED) -> Reader:
    """An integer in a range."""

    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be an integer from {least} to {most}, got {shortened(value)}")
        return value

    return read


def number(least: float = -math.inf, most: float = math.inf, *, named: tuple[str, ...] = ()) -> Reader:
    """A finite number in a range, or one that JSON lacks and that is written as text: "inf", "nan"."""

    def read(value: object) -> float:
        if isinstance(value, str) and value in named:
            return float(value)
        if type(value) not in (int, float) or not least <= value <= most or abs(value) == math.inf:  # type: ignore[operator,arg-type]
            besides = "".join(f' or "{name}"' for name in named)
            raise ValueError(f"must be a number from {least:g} to {most:g}{besides}, got {shortened(value)}")
        try:
            return float(value)  # type: ignore[arg-type]
        except OverflowError:
            raise ValueError(f"must be a number of at most 1.8e308, got {shortened(value)}") from None

    return read


def boolean(value: object) -> bool:
    """True or False."""
    if type(value) is not bool:
        raise ValueError(f"must be true or false, got {shortened(value)}")
    return value


def list_of(reader: Reader, *, least: int = 0, most: int | None = None) -> Reader:
    """A list whose values one reader takes, as a tuple."""

    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < least or (most is not None and len(value) > most):
            size = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            raise ValueError(f"must be a list of {size} values, got {shortened(value)}")
        return tuple(_at(place, reader, each) for place, each in enumerate(value))

    return read


def mapping_of(reader: Reader) -> Reader:
    """An object whose values one reader takes; its keys are any text."""

    def read(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be an object, got {shortened(value)}")
        return {text()(key): _at(shortened(key), reader, each) for key, each in value.items()}

    return read


def optional(reader: Reader) -> Reader:
    """None, or what a reader takes."""
    return lambda value: None if value is None else reader(value)


def _at(place: object, reader: Reader, value: object) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise ValueError(f"at {place} {error}") from error
