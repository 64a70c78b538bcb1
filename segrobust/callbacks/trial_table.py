"""What trials show: as which class each class of a mask counts."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

Outcomes: TypeAlias = Mapping[tuple[int, int], Mapping[str, float]]
"""Numbers by name, for each pair of the class predicted everywhere, and the class of all pixels of the mask."""

_FALLS = re.compile(r"loss|err|dist")
_RISES = re.compile(r"acc|iou|jaccard|dice|f1|prec|recall|trace")
"""Names of numbers that are lowest, or highest, for right predictions: needed where there are two classes."""


def class_table(outcomes: Outcomes, metrics: Collection[str], num_classes: int) -> dict[int, int]:
    """As which class each class of a mask counts.

    Metrics decide; without any, losses do. A class counts as itself if it does in one of them.

    Args:
        outcomes: of all trials.
        metrics: names of numbers that depend on predicted classes alone.
        num_classes: that the network predicts.

    Returns:
        An entry for each class that a number shows. Numbers that do not depend on the prediction for a class show
        nothing: means over some classes are constant where no other class occurs.

    Example:
        >>> right = {(found, label): {"acc": float(found == label)} for found in range(3) for label in range(3)}
        >>> class_table(right, {"acc"}, 3)
        {0: 0, 1: 1, 2: 2}
    """
    names = next(iter(outcomes.values()))
    tables = {name: _table_of(outcomes, name, num_classes) for name in names}
    shown = [table for name, table in tables.items() if table and name in metrics]
    shown = shown or [table for table in tables.values() if table]
    found: dict[int, int] = {}
    for label in sorted({label for _, label in outcomes}):
        answers = [table[label] for table in shown if label in table]
        # One class alone may be part of a number of its own, such as how often it is taken for another.
        others = [table[label] for table in shown if label in table and len(table) > 1]
        if label in answers or others:
            found[label] = label if label in answers else others[0]
    return found


def _table_of(outcomes: Outcomes, name: str, num_classes: int) -> dict[int, int]:
    """The same for one number: empty if it is no comparison of predictions with the mask."""
    table, sides = {}, set()
    for label in {label for _, label in outcomes}:
        column = {found: values.get(name, math.nan) for (found, other), values in outcomes.items() if other == label}
        odd = _odd_one(column, _side_of(name) if num_classes == 2 else None)
        if odd is not None:
            table[label] = odd[0]
            sides.add(odd[1])
    is_comparison = len(sides) == 1 and len({*table.values()}) == len(table)
    return table if is_comparison else {}


def _side_of(name: str) -> int:
    """1 for numbers that are highest for right predictions, -1 for the lowest, 0 if the name does not say."""
    if _FALLS.search(name.lower()):
        return -1
    return int(bool(_RISES.search(name.lower())))


def _odd_one(column: Mapping[int, float], side: int | None) -> tuple[int, int] | None:
    """The prediction whose number differs from those of all others more than these do, and on which side it lies.

    Args:
        column: a number by the predicted class.
        side: where two classes do not show which is the odd one; None for more.
    """
    if not all(map(math.isfinite, column.values())):
        return None
    ranked: Sequence[int] = sorted(column, key=column.__getitem__)
    values = [column[found] for found in ranked]
    spread = values[-1] - values[0]
    if spread <= 1e-6 * max(map(abs, values)):
        return None
    if side is not None:
        return (ranked[-1 if side > 0 else 0], side) if side else None
    if values[-1] - values[-2] > values[-2] - values[0]:
        return ranked[-1], 1
    if values[1] - values[0] > values[-1] - values[1]:
        return ranked[0], -1
    return None
