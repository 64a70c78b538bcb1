"""What is on a page: plain values that a template prints, and nothing that it has to work out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from segrobust.evaluation.checks import Status
from segrobust.evaluation.reporting.format import percent
from segrobust.evaluation.reporting.headline import Sentence
from segrobust.label_space import Color

Data = Mapping[str, object]
"""What the scripts of a page read; strict JSON."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says.
        sort: what rows are ordered by; empty for the text.
        status: a badge beside it, "" for none.
        strong: whether it stands out.
    """

    text: str
    sort: str = ""
    status: Status | Literal[""] = ""
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; all columns but the first hold numbers, unless it is a `prose` table.

    Attributes:
        title: above it; empty for none.
        head: of the columns.
        rows: cells.
        note: below it, what the numbers are a bound of.
        sortable: whether a click on a heading sorts.
        prose: whether cells hold sentences.
        folded: whether it is closed at first.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    sortable: bool = False
    prose: bool = False
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Stat:
    """A number in the opening."""

    label: str
    value: str
    note: str
    status: Status | Literal[""] = ""


@dataclass(frozen=True, kw_only=True)
class View:
    """One picture of a panel: its name, what the button says, and a data: URI."""

    name: str
    label: str
    uri: str
    smooth: bool


@dataclass(frozen=True, kw_only=True)
class PagePanel:
    """One image under one attack."""

    key: str
    why: str
    image: str
    job: str
    outcome: str
    size: tuple[int, int]
    views: tuple[View, ...]
    legend: tuple[tuple[str, Color], ...]


@dataclass(frozen=True, kw_only=True)
class Banner:
    """Something that a reader must know before the numbers: `fail` for numbers that must not be believed."""

    status: Literal["warn", "fail"]
    title: str
    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A place for a plot, and which of its controls there are."""

    key: Literal["scores", "norms", "classes"]
    title: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report of one run, or a comparison of several.

    Attributes:
        title: of the page.
        subtitle: what was evaluated.
        sentences: findings.
        stats: numbers in the opening.
        warnings: before everything else.
        plots: places for plots.
        class_plots: those that belong to the classes.
        tables: by the section that they belong to.
        panels: images.
        panels_note: which images these are, and how many are left out.
        facts: provenance, label and text.
        commands: command lines.
        attacks: name and repr.
        data: for the scripts.
    """

    title: str
    subtitle: str
    sentences: tuple[Sentence, ...] = ()
    stats: tuple[Stat, ...] = ()
    warnings: tuple[Banner, ...] = ()
    plots: tuple[Plot, ...] = ()
    class_plots: tuple[Plot, ...] = ()
    tables: Mapping[str, tuple[Table, ...]] = field(default_factory=dict)
    panels: tuple[PagePanel, ...] = ()
    panels_note: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()
    attacks: tuple[tuple[str, str], ...] = ()
    data: Data = field(default_factory=dict)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Attacks that have panels."""
        return tuple(dict.fromkeys(panel.job for panel in self.panels))


def number_cell(text: str, value: float, *, strong: bool = False) -> Cell:
    """A cell that sorts by its number, nan last."""
    return Cell(text=text, sort="" if math.isnan(value) else repr(float(value)), strong=strong)


def percent_cell(share: float, *, strong: bool = False) -> Cell:
    """A cell that shows a share in percent."""
    return number_cell(percent(share), share, strong=strong)


def rows_of(lines: Sequence[Sequence[str]]) -> tuple[tuple[Cell, ...], ...]:
    """Cells that hold texts."""
    return tuple(tuple(Cell(text=text) for text in line) for line in lines)
