"""The numbers of an evaluation as text for a terminal."""

import math
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from segrobust.evaluation.numbers.summary import (
    BOUND_BY_PRODUCT,
    BOUND_FIXED,
    BOUND_NORM,
    BOUND_WORST,
    FlaggedImage,
    MinimalNormSummary,
    Scores,
    Summary,
)
from segrobust.functional.norms import NormName

_FLAGGED_SHOWN = 8


def summary_tables(summary: Summary) -> RenderableType:
    """Clean scores, minimal norms, scores at fixed radii, images left out, and what each number is a bound of."""
    parts: list[RenderableType] = [_clean_line(summary)]
    if summary.minimal_norm:
        parts += [Text(), *_minimal_norm_tables(summary)]
    if summary.fixed_budget or any(entry.by_products for entry in summary.minimal_norm):
        parts += [Text(), *_budget_tables(summary)]
    if summary.flagged:
        parts += [Text(), _flagged_line(summary.flagged)]
    return Group(*parts)


def radius_text(eps: float, norm_name: NormName) -> str:
    """A radius as people write it: `8/255` in l_inf, a plain number elsewhere."""
    return f"{eps * 255:.4g}/255" if norm_name == "linf" else f"{eps:.4g}"


def norm_text(value: float, norm_name: NormName) -> str:
    """A norm for people: `1.18/255` in l_inf; "not reached" for inf."""
    if math.isinf(value):
        return "not reached"
    return f"{value * 255:.2f}/255" if norm_name == "linf" else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in percent with one decimal, without the sign; "-" for nan."""
    return "-" if math.isnan(share) else f"{share * 100:.1f}"


def _clean_line(summary: Summary) -> Text:
    if summary.clean is None:
        return Text("no image with a valid pixel has been evaluated")
    clean = summary.clean
    line = Text("clean", style="bold")
    line.append(
        f"   mIoU^D {percent(clean.miou)}   aAcc {percent(clean.accuracy)}   mAcc {percent(clean.mean_class_accuracy)}"
        f"   wrong pixels per image {percent(clean.mean_apsr)} %   ({clean.num_images} images)",
        style="not bold",
    )
    return line


def _minimal_norm_tables(summary: Summary) -> Iterable[RenderableType]:
    """One table per norm: their radii differ."""
    for norm_name in sorted({entry.norm_name for entry in summary.minimal_norm}):
        entries = [entry for entry in summary.minimal_norm if entry.norm_name == norm_name]
        table = _table(f"minimal norm ({norm_name})")
        for heading in ("images", "ASR %", "median (IQR)", *_asr_headings(entries[0])):
            table.add_column(heading, justify="right", no_wrap=True)
        for heading in ("APSR % (clean)", "fwd+bwd", "s/image"):
            table.add_column(heading, justify="right", no_wrap=True)
        for entry in entries:
            table.add_row(*_minimal_norm_row(entry))
        yield table
        yield _note(BOUND_NORM)


def _asr_headings(entry: MinimalNormSummary) -> list[str]:
    """The word once, then radii."""
    labels = [radius_text(eps, entry.norm_name) for eps in entry.norms.eps]
    return [f"ASR % at {labels[0]}", *labels[1:]] if labels else []


def _minimal_norm_row(entry: MinimalNormSummary) -> list[str]:
    norms, cost = entry.norms, entry.cost
    return [
        entry.attack,
        str(norms.num_images),
        percent(norms.asr),
        _median_and_quartiles(entry),
        *(percent(share) for share in norms.asr_at),
        f"{percent(entry.mean_apsr)} ({percent(entry.mean_clean_apsr)})",
        f"{cost.num_forwards:.0f}+{cost.num_backwards:.0f}",
        f"{cost.seconds:.3g}",
    ]


def _median_and_quartiles(entry: MinimalNormSummary) -> str:
    """`1.18 (0.92-1.51)/255`; quartiles that were not reached are open."""
    unit, scale = ("/255", 255) if entry.norm_name == "linf" else ("", 1)
    values = (entry.norms.median, entry.norms.lower_quartile, entry.norms.upper_quartile)
    if math.isinf(values[1]):
        return "not reached"
    median, lower, upper = ("?" if math.isinf(value) else f"{value * scale:.2f}" for value in values)
    return f"{median} ({lower}-{upper}){unit}"


def _budget_tables(summary: Summary) -> Iterable[RenderableType]:
    """One table per norm: attacks, their worst case, and by-products of minimal-norm attacks."""
    names: set[NormName] = {entry.norm_name for entry in summary.fixed_budget}
    names |= {entry.norm_name for entry in summary.minimal_norm if entry.by_products}
    for norm_name in sorted(names):
        attacks = [(e.attack, e.scores, e.cost) for e in summary.fixed_budget if e.norm_name == norm_name]
        worst = [entry.scores for entry in summary.worst_case if entry.norm_name == norm_name]
        by_products = [(e.attack, e.by_products) for e in summary.minimal_norm if e.norm_name == norm_name]
        eps = sorted({s.eps for line in (*(a[1] for a in attacks), *(b[1] for b in by_products)) for s in line})
        table = _table(f"fixed budget ({norm_name})")
        table.add_column("images", justify="right", no_wrap=True)
        for index, radius in enumerate(eps):
            label = radius_text(radius, norm_name)
            table.add_column(label if index else f"mIoU^D aAcc at {label}", justify="right", no_wrap=True)
        for heading in ("fwd+bwd", "s/image"):
            table.add_column(heading, justify="right", no_wrap=True)
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
    """Number of images, then mIoU^D and aAcc at each radius, empty where it was not measured."""
    known = {scores.eps: scores for scores in line}
    cells = [f"{percent(known[e].miou)} {percent(known[e].accuracy):>5}" if e in known else "" for e in eps]
    counts = sorted({scores.num_images for scores in line})
    return ["-".join(map(str, counts[:: max(len(counts) - 1, 1)])), *cells]


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
