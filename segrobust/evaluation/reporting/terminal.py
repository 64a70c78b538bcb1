"""The numbers of an evaluation as text for a terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from segrobust.evaluation.checks import Check
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
from segrobust.evaluation.reporting.format import median_and_quartiles, norms_note, percent, radius_text
from segrobust.evaluation.reporting.score_lines import norm_lines, strongest
from segrobust.functional.norms import NormName

_FLAGGED_SHOWN = 8


def summary_tables(summary: Summary, checks: Sequence[Check] = ()) -> RenderableType:
    """Clean scores, minimal norms, scores at fixed radii, where it breaks, images left out, checks that are not ok.

    Every table says what its numbers are bounds of.

    Args:
        summary: of an evaluation.
        checks: what was found against its numbers.
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
    line = Text("clean", style="bold")
    line.append(
        f"   mIoU^D {percent(clean.miou)}   aAcc {percent(clean.accuracy)}   mAcc {percent(clean.mean_class_accuracy)}"
        f"   wrong pixels per image {percent(clean.mean_apsr)} %   ({clean.num_images} images)",
        style="not bold",
    )
    return line


def _minimal_norm_tables(summary: Summary) -> Iterable[RenderableType]:
    """One table per norm: their radii differ."""
    for norm_name, entries in norm_lines(summary).items():
        table = _table(f"minimal norm ({norm_name})")
        for heading in ("images", "ASR %", "median (IQR)", *_asr_headings(entries[0])):
            table.add_column(heading, justify="right", no_wrap=True)
        for heading in ("APSR % (clean)", "fwd+bwd", "s/image"):
            table.add_column(heading, justify="right", no_wrap=True)
        for entry in entries:
            style = "bold" if isinstance(entry, SmallestNormSummary) else ""
            table.add_row(*_minimal_norm_row(entry), style=style)
        yield table
        yield _note(norms_note(entries))


def _asr_headings(entry: NormLine) -> list[str]:
    """The word once, then radii."""
    labels = [radius_text(eps, entry.norm_name) for eps in entry.norms.eps]
    return [f"ASR % at {labels[0]}", *labels[1:]] if labels else []


def _minimal_norm_row(entry: NormLine) -> list[str]:
    norms, cost = entry.norms, entry.cost
    return [
        entry.label,
        str(norms.num_images),
        percent(norms.asr),
        median_and_quartiles(entry),
        *(percent(share) for share in norms.asr_at),
        f"{percent(entry.mean_apsr)} ({percent(entry.mean_clean_apsr)})",
        f"{cost.num_forwards:.0f}+{cost.num_backwards:.0f}",
        f"{cost.seconds:.3g}",
    ]


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


def _any_attack_lines(summary: Summary) -> Iterable[RenderableType]:
    """Images that anything breaks, where several attacks of a norm ran; they are all there is of `asr_only`."""
    for entry in summary.any_attack:
        if entry.eps and (len(entry.attacks) > 1 or summary.asr_only):
            rates = zip(entry.eps, entry.asr, strict=True)
            table = _table(f"broken by any attack ({entry.norm_name})")
            for heading in ("images", *(f"ASR % at {radius_text(eps, entry.norm_name)}" for eps in entry.eps)):
                table.add_column(heading, justify="right", no_wrap=True)
            table.add_row(", ".join(entry.attacks), str(entry.num_images), *(percent(asr) for _, asr in rates))
            yield table
            yield _note(BOUND_ANY)


def _where_table(summary: Summary) -> Iterable[RenderableType]:
    """Borders, sizes of objects and the worst images: clean, and at the radius of the headline."""
    attacked, line = strongest(summary)[0].headline
    table = _table("where it breaks, %")
    clean = summary.clean or attacked
    sizes = [f"{entry.size} ({entry.num_objects})" for entry in clean.objects]
    worst = [f"mIoU^I of worst {round(100 * entry.q)} %" for entry in clean.worst_images]
    for heading in ("aAcc at borders", "inside", *(f"found: {size}" for size in sizes[:1]), *sizes[1:], *worst[1:2]):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, scores in (("clean", clean), (f"{line.label} at {radius_text(attacked.eps, line.norm_name)}", attacked)):
        cells = (scores.boundary_accuracy, scores.interior_accuracy, *(entry.found for entry in scores.objects))
        table.add_row(name, *map(percent, (*cells, *(entry.miou_image for entry in scores.worst_images[1:2]))))
    yield table
    yield _note(f"{line.scope}: {line.bound}; objects with at least half of their pixels right are found")


def _check_lines(checks: Sequence[Check]) -> Text:
    """How many are ok, and what the others say."""
    bad = sorted((check for check in checks if check.status != "ok"), key=lambda check: check.status)
    text = Text("checks", style="bold").append(f"   {len(checks) - len(bad)} of {len(checks)} ok", style="not bold")
    for check in bad:
        style = "not bold red" if check.status == "fail" else "not bold yellow"
        text.append(f"\n  {check.status} {check.name}: {check.detail}; {check.mend}", style=style)
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
