"""The keys `values` and `ignore` of a file of classes: what is written in masks for each class, and for void."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from segrobust.data.files.value_table import ValueTable, pack, unpack
from segrobust.label_space import WIDE_IGNORE_INDEX, Color, LabelSpace
from segrobust.untrusted.printable import shortened

_RANGE: Final = re.compile(r"(\d{1,5})\.\.(\d{1,5}|K)")
_HEX: Final = re.compile(r"#[0-9a-fA-F]{6}")
_LEAST, _MOST = -(2**31), 2**32 - 1
_MOST_RANGE: Final = 65_536

Value = int | Color
"""What is written for a class: an integer, or a colour."""


def parse_values(value: object, names: Sequence[str]) -> tuple[tuple[Value, ...], ...]:
    """The values of each class, in the order of the names.

    Args:
        value: a list with an entry per class, or a mapping from names to entries; or a range "1..K", one value for each
            class. An entry is an integer or a colour, [r, g, b] or "#rrggbb", or a list of several; of integers also a
            range. A list of three integers is a colour if all entries can be colours.
        names: of the classes.

    Raises:
        ValueError: another form, another number, integers beside colours, or a value that is there twice.
    """
    if isinstance(value, str) and _RANGE.fullmatch(value):
        found: tuple[tuple[Value, ...], ...] = tuple((each,) for each in _range(value, len(names)))
    else:
        entries = _entries(value, names)
        colors = bool(entries) and all(map(_may_be_color, entries))
        found = tuple(_limited(_several(entry, "values", len(names), colors=colors) for entry in entries))
    if len(found) != len(names):
        raise ValueError(f"values has {len(found)} entries for {len(names)} classes; write one for each, in order")
    if len({type(each) for entry in found for each in entry}) > 1:
        raise ValueError(f"values are integers or colours, and not both, got {shortened(value)}")
    first: dict[Value, int] = {}
    for label, each in ((label, each) for label, entry in enumerate(found) for each in entry):
        if each in first:
            raise ValueError(f"values: {_written(each)} stands for class {first[each]} and for class {label}")
        first[each] = label
    return found


def parse_ignore(value: object, values: Sequence[Sequence[Value]]) -> tuple[Value, ...]:
    """The values that are void: one or several, or a range.

    Args:
        value: an integer or a colour, or a list of them.
        values: of each class. If they are colours, a list of three integers is one colour.

    Raises:
        ValueError: another form, a value twice, integers where masks are in colours and the other way round, or some of
            the values of a class, but not all.
    """
    colors = _are_colors(values)
    found = _several(value, "ignore", len(values), colors=colors)
    wrong = [each for each in found if isinstance(each, tuple) != colors]
    if wrong:
        kind, needed = ("colours", "write colours, [r, g, b]") if colors else ("integers", "write integers")
        raise ValueError(f"ignore: values are {kind}, so {needed}, got {_written(wrong[0])}")
    twice = [each for each, number in Counter(found).items() if number > 1]
    if twice:
        raise ValueError(f"ignore: {_written(twice[0])} is there twice; write it once")
    for label, entry in enumerate(values):
        void = [each for each in entry if each in {*found}]
        if void and len(void) < len(entry):
            raise ValueError(
                f"{_written(void[0])} is in ignore and among the values of class {label}, whose other values are not; "
                f"write it in one of the two places"
            )
    return found


def value_table(space: LabelSpace, values: Sequence[Sequence[Value]], ignore: Sequence[Value]) -> ValueTable:
    """The table from written values to labels. A class whose values are also in `ignore` is void."""
    colors = _are_colors(values)
    labels = {_code(each): label for label, entry in enumerate(values) for each in entry}
    labels |= dict.fromkeys(map(_code, ignore), space.ignore_index)
    counted = [entry for entry in values if not {*entry} & {*ignore}]
    meaning = f"{summary_of_classes(counted)} for classes and {summary(ignore) or 'nothing'} for void, by classes.yaml"
    advice = _Advice(tuple(entry[0] for entry in values), colors)
    return ValueTable(labels, meaning, are_colors=colors, advice=advice)


def void_label(num_classes: int) -> int:
    """The usual label of void pixels: 255, or 65535 where 255 is a class."""
    return 255 if num_classes <= 255 else WIDE_IGNORE_INDEX


def summary(values: Sequence[Value]) -> str:
    """Values on one line: a range where they are one, else the first of them."""
    numbers = [each for each in values if isinstance(each, int)]
    if len(numbers) > 2 and [*numbers] == [*range(numbers[0], numbers[0] + len(numbers))]:
        return f"{numbers[0]}..{numbers[-1]}"
    return ", ".join(map(_written, values[:8])) + (", ..." if len(values) > 8 else "")


def summary_of_classes(values: Sequence[Sequence[Value]]) -> str:
    """The values of classes on one line; those of one class in brackets where it has several."""
    if all(len(entry) == 1 for entry in values):
        return summary([entry[0] for entry in values])
    shown = [_written(entry[0]) if len(entry) == 1 else f"[{summary(entry)}]" for entry in values[:8]]
    return ", ".join(shown) + (", ..." if len(values) > 8 else "")


@dataclass(frozen=True)
class _Advice:
    """What to write for values that no class has; an object, because loading processes receive copies of a table."""

    values: tuple[Value, ...]
    """The first of each class."""
    colors: bool

    def __call__(self, found: Sequence[int]) -> str:
        if [*found] == [len(self.values)] and [*self.values] == [*range(len(self.values))]:
            return "If the classes are numbered from 1 and 0 is void, write `values: 1..K` and `ignore: 0`"
        if self.colors and all(len({*unpack(each)}) == 1 for each in found) and not self._has_grey:
            return "The masks are grey, and three integers are a colour; for several integers of a class write `7..9`"
        shown = [list(unpack(each)) if self.colors else each for each in sorted(found)]
        if len(found) == len(self.values):
            text = f"If these are the classes, write `values: {shown}`, in the order of the names"
            return f"{text}; if they are void, add them to `ignore: {shown}`"
        text = f"If they are void, add them to `ignore: {shown}`; if they are classes, give each its value in `values`"
        return f"{text}. Colours between two classes come from JPEG or smooth resizing" if self.colors else text

    @property
    def _has_grey(self) -> bool:
        return any(isinstance(each, tuple) and len({*each}) == 1 for each in self.values)


def _entries(value: object, names: Sequence[str]) -> list[Any]:
    """The entry of each class, in the order of the names."""
    if isinstance(value, Mapping):
        if {*value} != {*names}:
            wrong = next(iter({*value} ^ {*names}))
            state = "is no class" if wrong in value else "has no value"
            raise ValueError(f"values by name have one entry for each of the names, and {shortened(wrong)} {state}")
        return [value[name] for name in names]
    if isinstance(value, list):
        return value
    raise ValueError(
        f"values must be a list with the value of each class (integers, or colours as [r, g, b] or '#rrggbb' in "
        f"quotes), or a range such as 1..K, got {shortened(value)}"
    )


def _may_be_color(entry: object) -> bool:
    """Whether an entry can be a colour, or a list of colours."""
    if isinstance(entry, list):
        return _is_triple(entry) or (bool(entry) and all(map(_may_be_color, entry)))
    return isinstance(entry, str) and not _RANGE.fullmatch(entry)


def _is_triple(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 3 and all(type(each) is int for each in entry)


def _several(entry: Any, key: str, num_classes: int, *, colors: bool) -> tuple[Value, ...]:
    """The values of an entry: one, a list of several, or a range."""
    is_one = not isinstance(entry, list) or (colors and _is_triple(entry))
    found: list[Value] = []
    for each in [entry] if is_one else entry:
        if isinstance(each, str) and _RANGE.fullmatch(each):
            found += _range(each, num_classes)
        else:
            found.append(_value(each, key))
        if len(found) > _MOST_RANGE:
            raise ValueError(f"{key}: the ranges hold more than {_MOST_RANGE} values; merge those that overlap")
    if not found and key == "values":
        raise ValueError("values: a class has an empty list; write what masks hold for it")
    return tuple(found)


def _limited(entries: Iterable[tuple[Value, ...]]) -> Iterator[tuple[Value, ...]]:
    """The values of all classes, up to a number that masks can hold."""
    total = 0
    for entry in entries:
        total += len(entry)
        if total > _MOST_RANGE:
            raise ValueError(f"values: the classes have more than {_MOST_RANGE} values together; shorten the ranges")
        yield entry


def _are_colors(values: Sequence[Sequence[Value]]) -> bool:
    return any(isinstance(each, tuple) for entry in values for each in entry)


def _code(value: Value) -> int:
    return pack(value) if isinstance(value, tuple) else value


def _range(text: str, num_classes: int) -> tuple[int, ...]:
    first, last = text.split("..")
    numbers = range(int(first), (num_classes if last == "K" else int(last)) + 1)
    if len(numbers) > _MOST_RANGE or not numbers:
        raise ValueError(f"a range goes from a smaller number to a larger one, got {text}")
    return tuple(numbers)


def _value(value: Any, key: str) -> Value:
    if type(value) is int and _LEAST <= value <= _MOST:
        return value
    if isinstance(value, str) and _HEX.fullmatch(value):
        return unpack(int(value[1:], 16))
    if isinstance(value, list) and len(value) == 3 and all(type(each) is int and 0 <= each <= 255 for each in value):
        red, green, blue = value
        return red, green, blue
    raise ValueError(
        f"{key}: a value is an integer that masks can hold, a colour [r, g, b] of 0..255 or '#rrggbb' in quotes, got "
        f"{shortened(value)}"
    )


def _written(value: Value) -> str:
    return str(value) if isinstance(value, int) else str(list(value))
