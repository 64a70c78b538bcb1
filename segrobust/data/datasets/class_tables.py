"""Classes of published data sets, from the tables beside this file: one line per class, in the order of the labels."""

import csv
from collections.abc import Sequence

from segrobust.label_space import LabelSpace
from segrobust.shipped import package_file

Rows = Sequence[dict[str, str]]
"""One per class: `name`, `red`, `green`, `blue`, and other columns that the data set has."""


def read_classes(name: str) -> Rows:
    """Reads `<name>.csv`."""
    return [*csv.DictReader(package_file(f"data/datasets/{name}.csv").read_text("utf-8").splitlines())]


def label_space(rows: Rows) -> LabelSpace:
    """The label space of the classes, with void as 255."""
    palette = tuple((int(row["red"]), int(row["green"]), int(row["blue"])) for row in rows)
    return LabelSpace(names=tuple(row["name"] for row in rows), palette=palette)
