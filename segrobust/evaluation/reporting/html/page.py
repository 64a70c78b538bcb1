"""The content of a page: plain values, which a template prints without computing anything."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from segrobust.evaluation.checks import Status
from segrobust.evaluation.reporting.format import percent
from segrobust.evaluation.reporting.headline import Sentence
from segrobust.label_space import Color

Data = Mapping[str, object]
"""The data that the scripts of a page read; strict JSON."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: shown in the cell.
        sort: key by which rows are sorted; empty for the text.
        status: of the badge in the cell, "" for none.
        strong: whether the text is highlighted.
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
        note: below it, such as which bounds the numbers are.
        sortable: whether a click on a heading sorts the rows.
        prose: whether cells hold sentences.
        folded: whether it is collapsed at first.
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
    """A number at the top of the page."""

    label: str
    value: str
    note: str
    status: Status | Literal[""] = ""


@dataclass(frozen=True, kw_only=True)
class View:
    """One picture of a panel: its name, the label of its button, and a data: URI."""

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
    """A warning above the numbers: `fail` if the numbers must not be trusted."""

    status: Literal["warn", "fail"]
    title: str
    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot, with its title and note."""

    key: Literal["scores", "norms", "classes"]
    title: str
    note: str


CLASS_PLOT: Final = Plot(
    key="classes", title="IoU by class, clean and under attack", note="Largest drop on top. Upper bounds."
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report of one run, or a comparison of several.

    Attributes:
        title: of the page.
        subtitle: what was evaluated.
        premise: what is broken, and by whom; empty if runs differ.
        sentences: the main results.
        stats: numbers at the top.
        warnings: banners above the numbers.
        plots: the curves.
        class_plots: plots of the section of classes.
        tables: by section.
        panels: images.
        panels_note: how many panels are left out; empty if none.
        facts: provenance, label and text.
        commands: command lines.
        attacks: name and repr.
        data: for the scripts.
    """

    title: str
    subtitle: str
    premise: str = ""
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
