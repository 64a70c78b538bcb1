"""YAML and JSON of others as plain values: text, numbers, booleans, None, lists, and mappings with keys of text.

A YAML document of a few lines can stand for one of any size: a name (an alias) repeats a part, and a part that repeats
parts grows by a power. What is read here has no aliases, no tags, a limited depth and a limited number of values, and
is built without recursion.
"""

import json
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import shortened
from segrobust.untrusted.regular_files import read_limited

LARGEST_DOCUMENT: Final = 2**22
"""Bytes; names of 65,534 classes take about 1 million."""

MOST_VALUES: Final = 2**18
DEEPEST: Final = 32

_MOST_SEPARATORS: Final = 2**20
"""Commas of a text of JSON, so that an empty value of two bytes cannot take a hundred bytes of memory and a
microsecond five million times; a manifest has 262,144 samples, and up to four values for each of 65,534 classes."""

_LONGEST_NUMBER: Final = 64
_LOADER: Final[type[Any]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX: Final = "tag:yaml.org,2002:"


def read_yaml(path: Path, what: str) -> object:
    """The value of a YAML file.

    Args:
        path: a regular file in UTF-8.
        what: which kind of file it is, for messages: "a file of classes".

    Raises:
        DataFault: it is too large, no regular file, not in UTF-8, or as in `parse_yaml`.
        FileNotFoundError: it is missing.
    """
    return parse_yaml(_text(path, what), str(path))


def parse_yaml(text: str, where: str) -> object:
    """The value of a YAML document.

    Dates stay text. A key that occurs twice is refused: one of the two would be ignored.

    Args:
        text: one document.
        where: what holds it, for messages.

    Raises:
        DataFault: no YAML, several documents, aliases, anchors or tags, a key twice or that is no text, a number of
            more than 64 characters, more than 262,144 values, or values nested more than 32 deep.

    Examples:
        >>> parse_yaml("names: [water, quay]", "classes.yaml")
        {'names': ['water', 'quay']}
    """
    try:
        return _build(yaml.parse(text, Loader=_LOADER), where)
    except (yaml.YAMLError, UnicodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
        raise DataFault(f"{where} is not YAML{place}: {reason}", kind="unreadable") from error


def read_json(path: Path, what: str, *, largest: int = LARGEST_DOCUMENT, root: Path | None = None) -> object:
    """The value of a JSON file.

    Args:
        path: a regular file in UTF-8.
        what: which kind of file it is, for messages.
        largest: bytes that it may have.
        root: a folder from which on no link is followed; None to follow links.

    Raises:
        DataFault: it is too large, no regular file, not in UTF-8, or as in `parse_json`.
        FileNotFoundError: it is missing.
    """
    return parse_json(_text(path, what, largest, root=root), str(path), largest=largest)


def parse_json(text: str, where: str, *, largest: int = LARGEST_DOCUMENT) -> object:
    """The value of strict JSON: without NaN and infinities, without a key twice.

    Args:
        text: one value.
        where: what holds it, for messages.
        largest: characters that it may have.

    Raises:
        DataFault: no strict JSON, values that are nested too deeply or too many, or a text that is too long.

    Examples:
        >>> parse_json('{"a": [1, 2]}', "info.json")
        {'a': [1, 2]}
    """
    if len(text) > largest:
        raise DataFault(f"{where} has {len(text)} characters; at most {largest} are read", kind="too large")
    if text.count(",") > _MOST_SEPARATORS:
        raise DataFault(f"{where} holds more values than are read, which are {_MOST_SEPARATORS}", kind="too large")
    try:
        value: object = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
        )
    except RecursionError as error:
        raise DataFault(f"{where} is not JSON that is read: values are nested too deeply", kind="unreadable") from error
    except ValueError as error:
        raise DataFault(f"{where} is not strict JSON: {error}", kind="unreadable") from error
    return value


def _text(path: Path, what: str, largest: int = LARGEST_DOCUMENT, *, root: Path | None = None) -> str:
    try:
        return read_limited(path, largest, what, root=root).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataFault(f"{path} is not text in UTF-8: byte {error.start} cannot be read", kind="unreadable") from error


def _build(events: Iterator[yaml.Event], where: str) -> object:
    """The value of the only document of a stream of events."""
    documents: list[object] = []
    open_: list[_Open] = []
    count = 0
    for event in events:
        value: object
        if isinstance(event, yaml.AliasEvent):
            raise DataFault(f"{where}: *{event.anchor} is an alias; write its value out", kind="unreadable")
        if isinstance(event, yaml.NodeEvent):
            _check_plain(event, where)
            count += 1
            if count > MOST_VALUES:
                raise DataFault(f"{where} holds more than {MOST_VALUES} values", kind="too large")
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_) == DEEPEST:
                raise DataFault(f"{where}: values are nested more than {DEEPEST} deep", kind="too large")
            open_.append(_Open(isinstance(event, yaml.MappingStartEvent), where))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            value = open_.pop().value
        elif isinstance(event, yaml.ScalarEvent):
            value = _scalar(event, where)
        else:
            continue
        if open_:
            open_[-1].add(value)
        else:
            documents.append(value)
    if len(documents) > 1:
        raise DataFault(f"{where} holds {len(documents)} documents; write one", kind="unreadable")
    return documents[0] if documents else None


def _check_plain(event: yaml.NodeEvent, where: str) -> None:
    if event.anchor is not None:
        raise DataFault(f"{where}: &{event.anchor} is an anchor; write values out", kind="unreadable")
    tag = getattr(event, "tag", None)
    if tag is not None and tag != "!":
        raise DataFault(f"{where}: {shortened(tag)} is a tag; only plain values are read", kind="unreadable")


class _Open:
    """A list or a mapping whose end has not been read."""

    def __init__(self, is_mapping: bool, where: str) -> None:
        self.value: list[object] | dict[str, object] = {} if is_mapping else []
        self._where = where
        self._key: str | None = None

    def add(self, value: object) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self._key is None:
            if not isinstance(value, str):
                raise DataFault(f"{self._where}: a key must be text, got {shortened(value)}", kind="unreadable")
            if value in self.value:
                raise DataFault(f"{self._where}: the key {shortened(value)} occurs twice", kind="unreadable")
            self._key = value
        else:
            self.value[self._key] = value
            self._key = None


_RESOLVER: Final = yaml.resolver.Resolver()
_CONSTRUCTOR: Final = yaml.constructor.SafeConstructor()


def _scalar(event: yaml.ScalarEvent, where: str) -> object:
    text: str = event.value
    if not event.implicit[0]:  # quoted
        return text
    try:
        return _plain(text) if len(text) <= _LONGEST_NUMBER else _long(text)
    except (ValueError, OverflowError) as error:
        raise DataFault(f"{where}: {shortened(text)} cannot be read: {error}", kind="unreadable") from error


@lru_cache(maxsize=1024)
def _plain(text: str) -> object:
    """A number, a boolean, None, or the text itself, as YAML 1.1 reads it."""
    tag = _tag(text)
    make = getattr(_CONSTRUCTOR, f"construct_yaml_{tag}", None) if tag in ("int", "float", "bool", "null") else None
    return text if make is None else make(yaml.ScalarNode(tag=_PREFIX + tag, value=text))


def _long(text: str) -> str:
    if _tag(text) in ("int", "float"):
        raise ValueError(f"it is a number of {len(text)} characters")
    return text


def _tag(text: str) -> str:
    resolved: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return resolved.removeprefix(_PREFIX)


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shortened(twice)} occurs twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"{shortened(text)} is a number of {len(text)} characters")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shortened(text)} is too large for a number")
    return value
