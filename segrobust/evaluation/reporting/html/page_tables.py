"""Tables of a page: numbers of a summary as cells."""

import math
from collections.abc import Iterable, Sequence

from segrobust.evaluation.checks import Status
from segrobust.evaluation.numbers.summary import BOUND_ANY, Cost, Scores, Summary
from segrobust.evaluation.reporting.format import median_and_quartiles, norms_note, percent, radius_text
from segrobust.evaluation.reporting.headline import NORM_LABELS
from segrobust.evaluation.reporting.html.page import Cell, Table, number_cell, rows_of
from segrobust.evaluation.reporting.run_files import RunFiles
from segrobust.evaluation.reporting.score_lines import Line, norm_lines, score_lines, strongest
from segrobust.functional.norms import NormName

Row = tuple[Cell, ...]


def norm_tables(run: RunFiles) -> Iterable[Table]:
    """Minimal-norm attacks, one table per norm."""
    for name, chosen in norm_lines(run.summary).items():
        radii = [f"ASR at {radius_text(eps, name)}" for eps in chosen[0].norms.eps]
        yield Table(
            title=f"Minimal norms, {NORM_LABELS[name]}",
            head=("attack", "images", "ASR, %", "median (IQR)", *radii, "APSR (clean), %", "passes", "s/image"),
            rows=tuple(
                (
                    _attack(run, entry.label, *entry.digests),
                    Cell(text=str(entry.norms.num_images)),
                    _percent(entry.norms.asr),
                    number_cell(median_and_quartiles(entry), entry.norms.median, strong=True),
                    *map(_percent, entry.norms.asr_at),
                    Cell(text=f"{percent(entry.mean_apsr)} ({percent(entry.mean_clean_apsr)})"),
                    *_cost(entry.cost),
                )
                for entry in chosen
            ),
            note=norms_note(chosen),
        )


def score_tables(run: RunFiles) -> Iterable[Table]:
    """What is left at each radius, one table per norm: worst case, attacks, by-products."""
    lines = score_lines(run.summary)
    costs = {entry.digest: entry.cost for entry in run.summary.fixed_budget}
    for name in sorted({line.norm_name for line in lines}, key=_norm_order):
        chosen = [line for line in lines if line.norm_name == name]
        radii = sorted({scores.eps for line in chosen for scores in line.scores})
        yield Table(
            title=f"mIoU^D | aAcc at eps in %, {NORM_LABELS[name]}",
            head=("attack", "images", *(radius_text(eps, name) for eps in radii), "passes", "s/image"),
            rows=tuple(
                (
                    _line_cell(run, line),
                    Cell(text=str(max(scores.num_images for scores in line.scores))),
                    *_score_cells(line, radii),
                    *(_cost(costs.get(line.digests[0])) if line.scope == "attack" else _cost(None)),
                )
                for line in chosen
            ),
            note="; ".join(f"{scope}: {bound}" for scope, bound in {e.scope: e.bound for e in chosen}.items()),
        )


def any_attack_tables(summary: Summary) -> Iterable[Table]:
    """Images that anything breaks, norm by norm."""
    for entry in summary.any_attack:
        if entry.eps:
            yield Table(
                title=f"Images broken by any attack in %, {NORM_LABELS[entry.norm_name]}",
                head=("attacks", "images", *(radius_text(eps, entry.norm_name) for eps in entry.eps)),
                rows=(
                    (
                        Cell(text=", ".join(entry.attacks)),
                        Cell(text=str(entry.num_images)),
                        *map(_percent, entry.asr),
                    ),
                ),
                note=BOUND_ANY,
            )


def success_table(run: RunFiles) -> Iterable[Table]:
    """Success rates for several shares of broken pixels."""
    lines = score_lines(run.summary)
    if not lines:
        return
    taus = [f"ASR at {round(100 * entry.apsr)} % broken" for entry in lines[0].scores[0].asr_by_apsr]
    yield Table(
        title="Success rates by share of broken pixels, %",
        head=("attack", "eps", *taus, "mean APSR", "clean APSR", "class-balanced APSR"),
        rows=tuple(
            (
                _line_cell(run, line),
                number_cell(radius_text(scores.eps, line.norm_name), scores.eps),
                *(_percent(entry.asr) for entry in scores.asr_by_apsr),
                *map(_percent, (scores.mean_apsr, scores.mean_clean_apsr, scores.mean_class_apsr)),
            )
            for line in lines
            for scores in line.scores
        ),
        note="an image counts as broken from the stated share of its valid pixels on; lower bounds",
        sortable=True,
        folded=True,
    )


def class_tables(run: RunFiles) -> Iterable[Table]:
    """IoU of every class under the strongest attack at each radius, one table per norm."""
    clean = run.summary.clean
    if clean is None:
        return
    for found in strongest(run.summary):
        shown, _ = found.headline
        radii = [radius_text(scores.eps, found.norm_name) for scores in found.scores]
        yield Table(
            title=f"IoU of classes in %, clean and at eps, {NORM_LABELS[found.norm_name]}",
            head=("class", "clean", *radii, f"drop at {radius_text(shown.eps, found.norm_name)}"),
            rows=tuple(
                (
                    Cell(text=name),
                    _percent(clean.iou[index]),
                    *(_percent(scores.iou[index]) for scores in found.scores),
                    _percent(clean.iou[index] - shown.iou[index], strong=True),
                )
                for index, name in enumerate(run.label_space.names)
            ),
            note=f"{found.note}. A class without ground truth has no IoU. A click on a heading sorts.",
            sortable=True,
        )


def where_tables(run: RunFiles) -> Iterable[Table]:
    """Borders, sizes of objects, and the worst images, clean and under the strongest attack at each radius."""
    clean = run.summary.clean
    if clean is None:
        return
    for found in strongest(run.summary):
        sizes = [f"{entry.size} objects found ({entry.num_objects})" for entry in clean.objects]
        worst = [f"mIoU^I of worst {round(100 * entry.q)} %" for entry in clean.worst_images]
        radii = [(f"eps {radius_text(scores.eps, found.norm_name)}", scores) for scores in found.scores]
        yield Table(
            title=f"Borders, objects and worst images in %, {NORM_LABELS[found.norm_name]}",
            head=("", "aAcc near borders", "aAcc inside", *sizes, *worst),
            rows=tuple(_where_row(name, scores) for name, scores in [("clean", clean), *radii]),
            note=f"{found.note}. An object is found if at least half of its pixels are right.",
        )


def check_table(run: RunFiles) -> Iterable[Table]:
    """What the checks say; those that are not ok first."""
    if run.checks:
        ordered = sorted(run.checks, key=lambda check: ("fail", "warn", "ok").index(check.status))
        mends = any(check.mend for check in ordered)
        yield Table(
            title="",
            head=("check", "measured", "what it would mean", *(["what to do"] if mends else [])),
            rows=tuple(
                (
                    Cell(text=check.name, status=check.status),
                    *(Cell(text=text) for text in (check.detail, check.meaning, *([check.mend] if mends else []))),
                )
                for check in ordered
            ),
            prose=True,
        )


def fault_table(run: RunFiles) -> Iterable[Table]:
    """Images that raised or could not be read, and images without a valid pixel."""
    raised = [
        (str(f.sample_id), f.sample_name, f"{f.attack} at {f.eps}" if f.stage == "attack" else f.stage, f.error)
        for f in run.faults
    ]
    flagged = [
        (str(f.sample_id), f.sample_name, ", ".join(f.flags), "left out of all numbers") for f in run.summary.flagged
    ]
    if raised or flagged:
        yield Table(
            title="",
            head=("image", "name", "where", "what happened"),
            rows=rows_of([*raised, *flagged]),
            prose=True,
        )


def _where_row(name: str, scores: Scores) -> Row:
    return (
        Cell(text=name),
        _percent(scores.boundary_accuracy),
        _percent(scores.interior_accuracy),
        *(_percent(entry.found) for entry in scores.objects),
        *(_percent(entry.miou_image) for entry in scores.worst_images),
    )


def _score_cells(line: Line, radii: Sequence[float]) -> Iterable[Cell]:
    known = {scores.eps: scores for scores in line.scores}
    for eps in radii:
        if eps in known:
            text = f"{percent(known[eps].miou)} | {percent(known[eps].accuracy)}"
            yield number_cell(text, known[eps].miou, strong=line.scope == "worst case")
        else:
            yield Cell(text="")


def _line_cell(run: RunFiles, line: Line) -> Cell:
    return _attack(run, line.label, *line.digests)


def _attack(run: RunFiles, label: str, *digests: str) -> Cell:
    """A name with the badge of the checks that touch its numbers; none where nothing was checked."""
    status: Status = run.status_of(*digests)
    return Cell(text=label, status=status if run.checks else "")


def _percent(share: float, *, strong: bool = False) -> Cell:
    return number_cell(percent(share), share, strong=strong)


def _cost(cost: Cost | None) -> tuple[Cell, Cell]:
    if cost is None:
        return Cell(text=""), Cell(text="")
    passes = cost.num_forwards + cost.num_backwards
    return (
        number_cell(f"{cost.num_forwards:.0f}+{cost.num_backwards:.0f}", passes),
        number_cell(f"{cost.seconds:.3g}", cost.seconds if math.isfinite(cost.seconds) else math.nan),
    )


def _norm_order(name: NormName) -> tuple[bool, str]:
    return name != "linf", name
