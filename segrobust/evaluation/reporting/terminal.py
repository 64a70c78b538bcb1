"""The numbers of an evaluation as text for a terminal."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from segrobust.evaluation.checks import Check
from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS, in_place
from segrobust.evaluation.numbers.summary import (
    BOUND_ANY,
    BOUND_BY_PRODUCT,
    BOUND_FIXED,
    BOUND_WORST,
    FlaggedImage,
    NormLine,
    Scores,
    SmallestNormSummary,
    Summary,
)
from segrobust.evaluation.reporting.format import (
    heading,
    median_and_quartiles,
    norms_note,
    percent,
    radius_text,
    value_text,
)
from segrobust.evaluation.reporting.score_lines import norm_lines, strongest
from segrobust.functional.norms import NormName, norm_order
from segrobust.untrusted.printable import for_terminal

_FLAGGED_SHOWN = 8
_HEADLINE: Final = in_place(METRICS, "headline")
_NORMS: Final = in_place(NORM_METRICS, "terminal")


class Escaped:
    """Anything that `rich` prints, with the control characters of its text escaped.

    Args:
        content: the text, table or group.
    """

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The segments of the content."""
        for segment in console.render(self._content, options):
            yield Segment(for_terminal(segment.text), segment.style, segment.control)


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
    if summary.fixed_budget or any(entry.by_products for entry in summary.minimal_norm):
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
        table = _table(f"minimal norm ({norm_name})")
        others = (f"{metric.label} %" if metric.unit == "%" else metric.label for metric in _NORMS)
        for name in ("images", "ASR %", "median (IQR)", *_asr_headings(entries[0]), *others, "fwd+bwd", "s/image"):
            table.add_column(name, justify="right", no_wrap=True)
        for entry in entries:
            style = "bold" if isinstance(entry, SmallestNormSummary) else ""
            table.add_row(*_minimal_norm_row(entry), style=style)
        yield table
        yield _note(norms_note(entries))


def _asr_headings(entry: NormLine) -> list[str]:
    """Headings by radius; only the first contains "ASR"."""
    labels = [radius_text(eps, entry.norm_name) for eps in entry.eps]
    return [f"ASR % at {labels[0]}", *labels[1:]] if labels else []


def _minimal_norm_row(entry: NormLine) -> list[str]:
    cost = entry.cost
    return [
        entry.label,
        str(entry.num_images),
        percent(entry["asr"]),
        median_and_quartiles(entry),
        *map(percent, entry.asr_at),
        *(value_text(metric, entry) for metric in _NORMS),
        f"{cost.num_forwards:.0f}+{cost.num_backwards:.0f}",
        f"{cost.seconds:.3g}",
    ]


def _budget_tables(summary: Summary) -> Iterable[RenderableType]:
    """One table per norm: attacks, their worst case, and by-products of minimal-norm attacks."""
    names: set[NormName] = {entry.norm_name for entry in summary.fixed_budget}
    names |= {entry.norm_name for entry in summary.minimal_norm if entry.by_products}
    for norm_name in sorted(names, key=norm_order):
        attacks = [(e.attack, e.scores, e.cost) for e in summary.fixed_budget if e.norm_name == norm_name]
        worst = [entry.scores for entry in summary.worst_case if entry.norm_name == norm_name]
        by_products = [(e.attack, e.by_products) for e in summary.minimal_norm if e.norm_name == norm_name]
        eps = sorted({s.eps for line in (*(a[1] for a in attacks), *(b[1] for b in by_products)) for s in line})
        labels = " ".join(metric.label for metric in _HEADLINE)
        table = _table(f"fixed budget ({norm_name})")
        table.add_column("images", justify="right", no_wrap=True)
        for index, radius in enumerate(eps):
            label = radius_text(radius, norm_name)
            table.add_column(label if index else f"{labels} at {label}", justify="right", no_wrap=True)
        for column in ("fwd+bwd", "s/image"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, line, cost in attacks:
            passes = f"{cost.num_forwards:.0f}+{cost.num_backwards:.0f}"
            table.add_row(name, *_score_cells(line, eps), passes, f"{cost.seconds:.3g}")
        for line in worst:
            table.add_row("worst case (greedy)", *_score_cells(line, eps), style="bold")
        for name, line in by_products:
            if line:
                table.add_row(f"by-product of {name}", *_score_cells(line, eps), style="dim")
        yield table
        yield _note(f"attack: {BOUND_FIXED}")
        if worst:
            yield _note(f"worst case: {BOUND_WORST}")
        if any(line for _, line in by_products):
            yield _note(f"by-product: {BOUND_BY_PRODUCT}")


def _score_cells(line: Sequence[Scores], eps: Sequence[float]) -> list[str]:
    """Number of images, then the headline metrics at each radius, empty where they were not measured."""
    known = {scores.eps: scores for scores in line}
    cells = [" ".join(f"{value_text(m, known[e]):>5}" for m in _HEADLINE) if e in known else "" for e in eps]
    counts = sorted({scores.num_images for scores in line})
    return ["-".join(map(str, counts[:: max(len(counts) - 1, 1)])), *cells]


def _any_attack_lines(summary: Summary) -> Iterable[RenderableType]:
    """Images broken by any attack, if several attacks of a norm ran; the only scores with `asr_only`."""
    for entry in summary.any_attack:
        if entry.eps and (len(entry.attacks) > 1 or summary.asr_only):
            rates = zip(entry.eps, entry.asr, strict=True)
            table = _table(f"broken by any attack ({entry.norm_name})")
            for column in ("images", *(f"ASR % at {radius_text(eps, entry.norm_name)}" for eps in entry.eps)):
                table.add_column(column, justify="right", no_wrap=True)
            table.add_row(", ".join(entry.attacks), str(entry.num_images), *(percent(asr) for _, asr in rates))
            yield table
            yield _note(BOUND_ANY)


def _where_table(summary: Summary) -> Iterable[RenderableType]:
    """Borders, sizes of objects and the worst images: clean, and at the radius of the headline."""
    attacked, line = strongest(summary)[0].headline
    table, metrics = _table("where it breaks, %"), in_place(METRICS, "terminal")
    clean = summary.clean or attacked
    for metric in metrics:
        table.add_column(heading(metric, clean), justify="right", no_wrap=True)
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
        text.append(f"\n  {check.status} {check.name}: {check.text}", style=style)
    return text


def _flagged_line(flagged: Sequence[FlaggedImage]) -> Text:
    shown = ", ".join(f"{f.sample_id} {f.sample_name} ({', '.join(f.flags)})" for f in flagged[:_FLAGGED_SHOWN])
    more = f" and {len(flagged) - _FLAGGED_SHOWN} more" if len(flagged) > _FLAGGED_SHOWN else ""
    return Text(f"left out of all numbers: {len(flagged)} images: {shown}{more}", style="yellow")


def _table(title: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="not bold", padding=(0, 2, 0, 0))
    table.add_column(Text(title, style="bold"), no_wrap=True)
    return table


def _note(text: str) -> Text:
    return Text(text, style="dim italic")
