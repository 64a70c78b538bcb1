"""The keys `values` and `ignore` of a file of classes: what is written in masks for each class, and for void."""

import re
from collections.abc import Sequence
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


def parse_values(value: object, num_classes: int) -> tuple[Value, ...]:
    """The value of each class.

    Args:
        value: a list of integers; a list of colours, [r, g, b] or "#rrggbb"; or a range "1..K".
        num_classes: K.

    Raises:
        ValueError: another form, another number, integers beside colours, or a value that two classes have.
    """
    if isinstance(value, str) and _RANGE.fullmatch(value):
        found: tuple[Value, ...] = _range(value, num_classes)
    elif isinstance(value, list):
        found = tuple(_value(each, "values") for each in value)
    else:
        raise ValueError(
            f"values must be a list with the value of each class (integers, or colours as [r, g, b] or "
            f"'#rrggbb' in quotes), or a range such as 1..K, got {shortened(value)}"
        )
    if len(found) != num_classes:
        raise ValueError(f"values has {len(found)} entries for {num_classes} classes; write one for each, in order")
    if len({type(each) for each in found}) > 1:
        raise ValueError(f"values are integers or colours, and not both, got {shortened(value)}")
    first: dict[Value, int] = {}
    for label, each in enumerate(found):
        if each in first:
            raise ValueError(f"values: {_written(each)} stands for class {first[each]} and for class {label}")
        first[each] = label
    return found


def parse_ignore(value: object, num_classes: int, *, colors: bool) -> tuple[Value, ...]:
    """The values that are void: one or several, or a range.

    Args:
        value: an integer or a colour, or a list of them.
        num_classes: K, for ranges.
        colors: whether masks are in colours; a list of three integers is then one colour.

    Raises:
        ValueError: another form, or integers where masks are in colours, and the other way round.
    """
    is_one = not isinstance(value, list) or (colors and len(value) == 3 and all(type(each) is int for each in value))
    found: list[Value] = []
    for each in [value] if is_one else value:  # type: ignore[attr-defined]
        if isinstance(each, str) and _RANGE.fullmatch(each):
            found += _range(each, num_classes)
        else:
            found.append(_value(each, "ignore"))
        if len(found) > _MOST_RANGE:
            raise ValueError(f"ignore: the ranges hold more than {_MOST_RANGE} values; merge those that overlap")
    wrong = [each for each in found if isinstance(each, tuple) != colors]
    if wrong:
        kind, needed = ("colours", "write colours, [r, g, b]") if colors else ("integers", "write integers")
        raise ValueError(f"ignore: values are {kind}, so {needed}, got {_written(wrong[0])}")
    return tuple(found)


def value_table(space: LabelSpace, values: Sequence[Value], ignore: Sequence[Value]) -> ValueTable:
    """The table from written values to labels. A value of a class that is also in `ignore` is void."""
    colors = any(isinstance(each, tuple) for each in values)
    codes = [pack(each) if isinstance(each, tuple) else each for each in values]
    void = [pack(each) if isinstance(each, tuple) else each for each in ignore]
    labels = {code: label for label, code in enumerate(codes)} | dict.fromkeys(void, space.ignore_index)
    counted = [each for each in values if each not in set(ignore)]
    meaning = f"{summary(counted)} for classes and {summary(ignore) or 'nothing'} for void, by classes.yaml"
    return ValueTable(labels, meaning, are_colors=colors, advice=_Advice(tuple(values), colors))


def void_label(num_classes: int) -> int:
    """The usual label of void pixels: 255, or 65535 where 255 is a class."""
    return 255 if num_classes <= 255 else WIDE_IGNORE_INDEX


def summary(values: Sequence[Value]) -> str:
    """Values on one line: a range where they are one, else the first of them."""
    numbers = [each for each in values if isinstance(each, int)]
    if len(numbers) > 2 and [*numbers] == [*range(numbers[0], numbers[0] + len(numbers))]:
        return f"{numbers[0]}..{numbers[-1]}"
    return ", ".join(map(_written, values[:8])) + (", ..." if len(values) > 8 else "")


@dataclass(frozen=True)
class _Advice:
    """What to write for values that no class has; an object, because loading processes receive copies of a table."""

    values: tuple[Value, ...]
    colors: bool

    def __call__(self, found: Sequence[int]) -> str:
        if [*found] == [len(self.values)] and [*self.values] == [*range(len(self.values))]:
            return "If the classes are numbered from 1 and 0 is void, write `values: 1..K` and `ignore: 0`"
        shown = [list(unpack(each)) if self.colors else each for each in sorted(found)]
        if len(found) == len(self.values):
            text = f"If these are the classes, write `values: {shown}`, in the order of the names"
            return f"{text}; if they are void, add them to `ignore: {shown}`"
        text = f"If they are void, add them to `ignore: {shown}`; if they are classes, give each its value in `values`"
        return f"{text}. Colours between two classes come from JPEG or smooth resizing" if self.colors else text


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
