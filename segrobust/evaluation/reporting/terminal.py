"""The numbers of an evaluation as text for a terminal."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from segrobust.evaluation.checks import Check
from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS, in_place
from segrobust.evaluation.numbers.summary import (
    BOUND_ANY,
    FlaggedImage,
    NormLine,
    SmallestNormSummary,
    Summary,
)
from segrobust.evaluation.reporting.format import (
    cost_texts,
    heading,
    norm_cells,
    norms_note,
    percent,
    radius_text,
    value_text,
)
from segrobust.evaluation.reporting.score_lines import Line, Scope, norm_lines, score_grids, strongest
from segrobust.untrusted.printable import visible

_FLAGGED_SHOWN = 8
_NORMS: Final = in_place(NORM_METRICS, "terminal")
_STYLES: Final[dict[Scope, str]] = {"worst case": "bold", "attack": "", "by-product": "dim"}


def summary_tables(summary: Summary, checks: Sequence[Check] = ()) -> RenderableType:
    """Clean scores, minimal norms, scores at fixed radii, borders and objects, flagged images, checks that are not ok.

    Every table states which bounds its numbers are.

    Args:
        summary: of an evaluation.
        checks: results of the checks for false robustness.
    """
    parts: list[RenderableType] = [_clean_line(summary)]
    if summary.minimal_norm:
        parts += [Text(), *_minimal_norm_tables(summary)]
    if score_grids(summary):
        parts += [Text(), *_budget_tables(summary)]
    rates = list(_any_attack_lines(summary))
    if rates:
        parts += [Text(), *rates]
    if summary.clean is not None and strongest(summary):
        parts += [Text(), *_where_table(summary)]
    if summary.flagged:
        parts += [Text(), _flagged_line(summary.flagged)]
    if checks:
        parts += [Text(), _check_lines(checks)]
    return Group(*parts)


def _clean_line(summary: Summary) -> Text:
    if summary.clean is None:
        return Text("no image with a valid pixel has been evaluated")
    clean = summary.clean
    values = "   ".join(f"{m.label} {value_text(m, clean)}" for m in in_place(METRICS, "clean"))
    return Text("clean", style="bold").append(f"   {values} %   ({clean.num_images} images)", style="not bold")


def _minimal_norm_tables(summary: Summary) -> Iterable[RenderableType]:
    """One table per norm: their radii differ."""
    for norm_name, entries in norm_lines(summary).items():
        others = (f"{metric.label} %" if metric.unit == "%" else metric.label for metric in _NORMS)
        columns = ("images", "ASR %", "median (IQR)", *_asr_headings(entries[0]), *others, "fwd+bwd", "s/image")
        table = _table(f"minimal norm ({norm_name})", columns)
        for entry in entries:
            style = "bold" if isinstance(entry, SmallestNormSummary) else ""
            values = (value_text(metric, entry) for metric in _NORMS)
            table.add_row(*map(_narrow, norm_cells(entry)), *values, *cost_texts(entry.cost), style=style)
        yield table
        yield _note(norms_note(entries))


def _asr_headings(entry: NormLine) -> list[str]:
    """Headings by radius; only the first contains "ASR"."""
    labels = [radius_text(eps, entry.norm_name) for eps in entry.eps]
    return [f"ASR % at {labels[0]}", *labels[1:]] if labels else []


def _budget_tables(summary: Summary) -> Iterable[RenderableType]:
    """One table per norm: the worst case of attacks, attacks, and by-products of minimal-norm attacks."""
    labels = " ".join(metric.label for metric in in_place(METRICS, "headline"))
    for grid in score_grids(summary):
        first, *others = (radius_text(eps, grid.norm_name) for eps in grid.radii)
        columns = ("images", f"{labels} at {first}", *others, "fwd+bwd", "s/image")
        table = _table(f"fixed budget ({grid.norm_name})", columns)
        for line in grid.lines:
            cells = (line.text(eps, " ", width=5) for eps in grid.radii)
            costs = ("", "") if line.cost is None else cost_texts(line.cost)
            table.add_row(line.label, _num_images(line), *cells, *costs, style=_STYLES[line.scope])
        yield table
        yield from map(_note, grid.bounds)


def _num_images(line: Line) -> str:
    """The number of images; during a run the lowest and the highest of the radii."""
    counts = sorted({scores.num_images for scores in line.scores})
    return "-".join(map(str, counts[:: max(len(counts) - 1, 1)]))


def _any_attack_lines(summary: Summary) -> Iterable[RenderableType]:
    """Images broken by any attack, if several attacks of a norm ran; the only scores with `asr_only`."""
    for entry in summary.any_attack:
        if entry.eps and (len(entry.attacks) > 1 or summary.asr_only):
            radii = (f"ASR % at {radius_text(eps, entry.norm_name)}" for eps in entry.eps)
            table = _table(f"broken by any attack ({entry.norm_name})", ("images", *radii))
            table.add_row(", ".join(entry.attacks), str(entry.num_images), *map(percent, entry.asr))
            yield table
            yield _note(BOUND_ANY)


def _where_table(summary: Summary) -> Iterable[RenderableType]:
    """Borders, sizes of objects and the worst images: clean, and at the radius of the headline."""
    attacked, line = strongest(summary)[0].headline
    metrics, clean = in_place(METRICS, "terminal"), summary.clean or attacked
    table = _table("where it breaks, %", (heading(metric, clean) for metric in metrics))
    for name, scores in (("clean", clean), (f"{line.label} at {radius_text(attacked.eps, line.norm_name)}", attacked)):
        table.add_row(name, *(value_text(metric, scores) for metric in metrics))
    yield table
    yield _note(f"{line.scope}: {line.bound}; an object is found if at least half of its pixels are correct")


def _check_lines(checks: Sequence[Check]) -> Text:
    """The number of checks that are ok, and the text of the others."""
    bad = sorted((check for check in checks if check.status != "ok"), key=lambda check: check.status)
    text = Text("checks", style="bold").append(f"   {len(checks) - len(bad)} of {len(checks)} ok", style="not bold")
    for check in bad:
        style = "not bold red" if check.status == "fail" else "not bold yellow"
        text.append(f"\n  {visible(f'{check.status} {check.name}: {check.text}')}", style=style)
    return text


def _flagged_line(flagged: Sequence[FlaggedImage]) -> Text:
    shown = ", ".join(f"{f.sample_id} {f.sample_name} ({', '.join(f.flags)})" for f in flagged[:_FLAGGED_SHOWN])
    more = f" and {len(flagged) - _FLAGGED_SHOWN} more" if len(flagged) > _FLAGGED_SHOWN else ""
    return Text(visible(f"left out of all numbers: {len(flagged)} images: {shown}{more}"), style="yellow")


def _table(title: str, columns: Iterable[str]) -> Table:
    """An empty table without borders; all columns but the first are numbers."""
    table = Table(box=None, pad_edge=False, header_style="not bold", padding=(0, 2, 0, 0))
    table.add_column(Text(title, style="bold"), no_wrap=True)
    for column in columns:
        table.add_column(_narrow(column), justify="right", no_wrap=True)
    return table


def _narrow(text: str) -> str:
    """A length with the sensor's units below it, so that lines stay as short as without them."""
    return text.replace(" = ", "\n= ").replace(" to ", "\nto ") if " = " in text else text


def _note(text: str) -> Text:
    return Text(text, style="dim italic")
