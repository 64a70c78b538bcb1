"""Tables of a page: numbers of a summary as cells."""

import math
from collections.abc import Iterable
from typing import Any, Final

from segrobust.evaluation.checks import Status
from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS, Group, Metric, in_place
from segrobust.evaluation.numbers.summary import BOUND_ANY, Cost, NormSummary, Scores, Summary
from segrobust.evaluation.reporting.format import (
    ENVELOPE_HEAD,
    ENVELOPE_NOTE,
    cost_texts,
    envelope_rows,
    heading,
    median_and_quartiles,
    norms_note,
    radius_text,
    value_text,
)
from segrobust.evaluation.reporting.headline import NORM_LABELS
from segrobust.evaluation.reporting.html.page import Cell, Table, number_cell, percent_cell, rows_of
from segrobust.evaluation.reporting.run_files import RunFiles
from segrobust.evaluation.reporting.score_lines import Line, norm_lines, score_grids, score_lines, strongest

_HEADLINE: Final = in_place(METRICS, "headline")


def norm_tables(run: RunFiles) -> Iterable[Table]:
    """Minimal-norm attacks, one table per norm."""
    for name, chosen in norm_lines(run.summary).items():
        radii = [f"ASR at {radius_text(eps, name)}" for eps in chosen[0].eps]
        others = [metric for metric in NORM_METRICS if "headline" not in metric.places]
        labels = [f"{metric.label}, %" if metric.unit == "%" else metric.label for metric in others]
        yield Table(
            title=f"Minimal norms, {NORM_LABELS[name]}",
            head=("attack", "images", "ASR, %", "median (IQR)", *radii, *labels, "passes", "s/image"),
            rows=tuple(
                (
                    _attack(run, entry.label, *entry.digests),
                    Cell(text=str(entry.num_images)),
                    percent_cell(entry["asr"]),
                    number_cell(median_and_quartiles(entry), entry["median"], strong=True),
                    *map(percent_cell, entry.asr_at),
                    *(_value(metric, entry) for metric in others),
                    *_cost(entry.cost),
                )
                for entry in chosen
            ),
            note=norms_note(chosen),
        )


def envelope_tables(summary: Summary) -> Iterable[Table]:
    """How near each attack comes to the smallest norms of all, one table per norm."""
    for entry in summary.smallest_norm:
        yield Table(
            title=f"Attacks against the {entry.label}, {NORM_LABELS[entry.norm_name]}",
            head=ENVELOPE_HEAD,
            rows=rows_of(envelope_rows(entry)),
            note=ENVELOPE_NOTE,
            sortable=True,
        )


def score_tables(run: RunFiles) -> Iterable[Table]:
    """Scores at each radius, one table per norm: worst case, attacks, by-products."""
    labels = " | ".join(metric.label for metric in _HEADLINE)
    for grid in score_grids(run.summary):
        radii = (radius_text(eps, grid.norm_name) for eps in grid.radii)
        yield Table(
            title=f"{labels} at eps in %, {NORM_LABELS[grid.norm_name]}",
            head=("attack", "images", *radii, "passes", "s/image"),
            rows=tuple(
                (
                    _line_cell(run, line),
                    Cell(text=str(line.num_images)),
                    *(_score_cell(line, eps) for eps in grid.radii),
                    *_cost(line.cost),
                )
                for line in grid.lines
            ),
            note="; ".join(grid.bounds),
        )


def any_attack_tables(summary: Summary) -> Iterable[Table]:
    """Images broken by any attack, norm by norm."""
    for entry in summary.any_attack:
        if entry.eps:
            names = Cell(text=", ".join(entry.attacks)), Cell(text=str(entry.num_images))
            yield Table(
                title=f"Images broken by any attack in %, {NORM_LABELS[entry.norm_name]}",
                head=("attacks", "images", *(radius_text(eps, entry.norm_name) for eps in entry.eps)),
                rows=((*names, *map(percent_cell, entry.asr)),),
                note=BOUND_ANY,
            )


def metric_tables(run: RunFiles) -> Iterable[Table]:
    """All scores and success rates, one row per attack and radius."""
    titles: dict[Group, tuple[str, str]] = {
        "scores": ("Scores at eps in %", "upper bounds"),
        "success": ("Success rates and shares of broken pixels in %", "lower bounds, of the clean APSR exact"),
    }
    lines = score_lines(run.summary)
    for group, (title, note) in titles.items() if lines else ():
        metrics = [metric for metric in METRICS if metric.group == group]
        clean = [] if run.summary.clean is None else [(Cell(text="clean"), Cell(text=""), run.summary.clean)]
        radii = [
            (_line_cell(run, line), number_cell(radius_text(scores.eps, line.norm_name), scores.eps), scores)
            for line in lines
            for scores in line.scores
        ]
        yield Table(
            title=title,
            head=("attack", "eps", *(metric.label for metric in metrics)),
            rows=tuple(
                (name, eps, *(_value(metric, scores) for metric in metrics)) for name, eps, scores in (*clean, *radii)
            ),
            note=note,
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
                    percent_cell(clean.iou[index]),
                    *(percent_cell(scores.iou[index]) for scores in found.scores),
                    percent_cell(clean.iou[index] - shown.iou[index], strong=True),
                )
                for index, name in enumerate(run.label_space.names)
            ),
            note=f"{found.note}. A class without ground truth has no IoU. Click a heading to sort.",
            sortable=True,
        )


def where_tables(run: RunFiles) -> Iterable[Table]:
    """Borders, sizes of objects, and the worst images, clean and under the strongest attack at each radius."""
    clean = run.summary.clean
    titles: dict[Group, tuple[str, str]] = {
        "regions": ("Borders and objects in %", " An object is found if at least half of its pixels are correct."),
        "worst images": ("Worst images in %", ""),
    }
    for found in strongest(run.summary) if clean is not None else ():
        radii = [(f"eps {radius_text(scores.eps, found.norm_name)}", scores) for scores in found.scores]
        for group, (title, note) in titles.items():
            metrics = [metric for metric in METRICS if metric.group == group]
            yield Table(
                title=f"{title}, {NORM_LABELS[found.norm_name]}",
                head=("", *(heading(metric, clean) for metric in metrics)),
                rows=tuple(
                    (Cell(text=name), *(_value(metric, scores) for metric in metrics))
                    for name, scores in [("clean", clean), *radii]
                    if scores is not None
                ),
                note=f"{found.note}.{note}",
            )


def check_table(run: RunFiles) -> Iterable[Table]:
    """The checks, those that are not ok first."""
    if run.checks:
        ordered = sorted(run.checks, key=lambda check: ("fail", "warn", "ok").index(check.status))
        fixes = any(check.fix for check in ordered)
        yield Table(
            title="",
            head=("check", "measured", "what a failure means", *(["fix"] if fixes else [])),
            rows=tuple(
                (
                    Cell(text=check.name, status=check.status),
                    *(Cell(text=text) for text in (check.detail, check.meaning, *([check.fix] if fixes else []))),
                )
                for check in ordered
            ),
            prose=True,
        )


def fault_table(run: RunFiles) -> Iterable[Table]:
    """Images with errors, and images without a valid pixel."""
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


def _score_cell(line: Line, eps: float) -> Cell:
    """The headline metrics at a radius, sorted by the first; empty where they were not measured."""
    scores = line.at(eps)
    if scores is None:
        return Cell(text="")
    return number_cell(line.text(eps, " | "), scores[_HEADLINE[0].key], strong=line.scope == "worst case")


def _value(metric: Metric[Any], numbers: NormSummary | Scores) -> Cell:
    return number_cell(value_text(metric, numbers), numbers[metric.key])


def _line_cell(run: RunFiles, line: Line) -> Cell:
    return _attack(run, line.label, *line.digests)


def _attack(run: RunFiles, label: str, *digests: str) -> Cell:
    """A name with the badge of the checks that concern it; no badge if nothing was checked."""
    status: Status = run.status_of(*digests)
    return Cell(text=label, status=status if run.checks else "")


def _cost(cost: Cost | None) -> tuple[Cell, Cell]:
    if cost is None:
        return Cell(text=""), Cell(text="")
    passes, seconds = cost_texts(cost)
    return (
        number_cell(passes, cost.num_forwards + cost.num_backwards),
        number_cell(seconds, cost.seconds if math.isfinite(cost.seconds) else math.nan),
    )
