"""Tables of a comparison."""

import math
from collections.abc import Iterable, Sequence

import torch

from segrobust.evaluation.numbers.smallest_norm import smallest_norms
from segrobust.evaluation.numbers.summary import NormLine, SmallestNormSummary
from segrobust.evaluation.reporting.comparison.compared_runs import ComparedRun, same_classes, shared_radius
from segrobust.evaluation.reporting.format import median_and_quartiles, radius_text
from segrobust.evaluation.reporting.headline import NORM_LABELS
from segrobust.evaluation.reporting.html.page import Cell, Table, number_cell, percent_cell, rows_of
from segrobust.evaluation.reporting.html.page_text import facts
from segrobust.evaluation.reporting.score_lines import norm_lines, strongest
from segrobust.evaluation.run.changed_samples import find_changed
from segrobust.evaluation.run.records import digests_of
from segrobust.functional.norms import NormName, norm_order
from segrobust.metrics import geometric_mean_ratio


def headline_table(compared_runs: Sequence[ComparedRun]) -> Table:
    """One row per run: clean scores, scores under attack by radius, median norms."""
    attacks = {_key(entry): _norm_name(entry) for c in reversed(compared_runs) for entry in _norm_lines(c)}
    found = {(e.norm_name, s.eps) for c in compared_runs for e in strongest(c.run.summary) for s in e.scores}
    radii = sorted(found, key=lambda key: (norm_order(key[0]), key[1]))
    heads = [f"mIoU^D at {radius_text(eps, name)}" for name, eps in radii]
    return Table(
        title="",
        head=(
            *("run", "images", "clean mIoU^D, %", "clean aAcc, %"),
            *heads,
            *(f"median norm (IQR), {name}" for name in attacks.values()),
        ),
        rows=tuple(_headline_row(c, radii, attacks) for c in compared_runs),
        note="Upper bounds, at each eps under the attack with the lowest mIoU^D. Norms count failures as infinite. A "
        "badge shows the worst status of a run's checks.",
        sortable=True,
    )


def _norm_lines(c: ComparedRun) -> tuple[NormLine, ...]:
    return tuple(entry for entries in norm_lines(c.run.summary).values() for entry in entries)


def _key(entry: NormLine) -> frozenset[str]:
    return frozenset(entry.digests)


def _norm_name(entry: NormLine) -> str:
    """The attack; for the smallest of several also the norm, which their common label does not contain."""
    return f"{entry.label}, {NORM_LABELS[entry.norm_name]}" if isinstance(entry, SmallestNormSummary) else entry.label


def _headline_row(
    c: ComparedRun, radii: Sequence[tuple[NormName, float]], attacks: Iterable[frozenset[str]]
) -> tuple[Cell, ...]:
    clean = c.run.summary.clean
    left = {(e.norm_name, s.eps): s.miou for e in strongest(c.run.summary) for s in e.scores}
    norms = {_key(e): number_cell(median_and_quartiles(e), e["median"]) for e in _norm_lines(c)}
    return (
        Cell(text=c.label, status=c.run.status_of() if c.run.checks else ""),
        Cell(text=str(c.run.summary.num_images)),
        percent_cell(math.nan if clean is None else clean.miou),
        percent_cell(math.nan if clean is None else clean.accuracy),
        *(percent_cell(left.get(key, math.nan), strong=True) for key in radii),
        *(norms.get(key, Cell(text="-")) for key in attacks),
    )


def ratio_table(compared_runs: Sequence[ComparedRun]) -> Iterable[Table]:
    """Ratios of the norms of each run to those of the first, image by image."""
    base, *others = compared_runs
    rows = []
    for entry in _norm_lines(base):
        for other in others:
            ours, theirs = (
                {r.sample_id: r.norm for r in smallest_norms(c.run.records, entry.digests)} for c in (other, base)
            )
            changed = find_changed(base.run.records, digests_of(other.run.records))
            shared = sorted(ours.keys() & theirs.keys() - changed.keys())
            if shared:
                a, b = (torch.tensor([n[i] for i in shared], dtype=torch.float64) for n in (ours, theirs))
                found = geometric_mean_ratio(a, b)
                counts = (found.num_both, found.num_only_a, found.num_only_b, found.num_neither, found.num_zero)
                ratio = "-" if math.isnan(found.ratio) else f"{found.ratio:.3f}"
                rows.append([f"{other.label} / {base.label}", _norm_name(entry), ratio, *map(str, counts)])
    if rows:
        yield Table(
            title="Ratios of norms, image by image",
            head=("runs", "attack", "geometric mean", "both broken", "only first", "only second", "neither", "norm 0"),
            rows=rows_of(rows),
            note="Above 1: the first run needs larger perturbations. Geometric mean over the images that are broken in "
            "both runs; images that are broken without attack have no ratio.",
        )


def class_tables(compared_runs: Sequence[ComparedRun]) -> Iterable[Table]:
    """IoU of every class, clean and at the radius of the headline, if the runs share classes and radius."""
    shared = shared_radius(compared_runs)
    if shared is None or not same_classes(compared_runs):
        return
    eps, norm_name, scores = shared
    radius = radius_text(eps, norm_name)
    clean = [c.run.summary.clean for c in compared_runs]
    yield Table(
        title=f"IoU of classes in %, clean and at {radius}",
        head=("class", *(f"{c.label}, {when}" for c in compared_runs for when in ("clean", radius))),
        rows=tuple(
            (
                Cell(text=name),
                *(
                    percent_cell(value, strong=strong)
                    for before, after in zip(clean, scores, strict=True)
                    for value, strong in (
                        (math.nan if before is None else before.iou[index], False),
                        (after.iou[index], True),
                    )
                ),
            )
            for index, name in enumerate(compared_runs[0].run.label_space.names)
        ),
        note="Upper bounds, under the attack with the lowest mIoU^D of each run.",
        sortable=True,
    )


def check_table(compared_runs: Sequence[ComparedRun]) -> Table:
    """The number of checks that are ok, and the others."""
    rows = []
    for c in compared_runs:
        bad = [check for check in c.run.checks if check.status != "ok"]
        count = f"{len(c.run.checks) - len(bad)} of {len(c.run.checks)} ok" if c.run.checks else "not checked"
        status = c.run.status_of() if c.run.checks else "warn"
        rows.append((Cell(text=c.label, status=status), Cell(text=count), Cell(text="")))
        rows += [
            (Cell(text=f"{c.label}: {k.name}", status=k.status), Cell(text=k.detail), Cell(text=k.fix)) for k in bad
        ]
    return Table(title="", head=("run", "measured", "fix"), rows=tuple(rows), prose=True)


def fact_table(compared_runs: Sequence[ComparedRun]) -> Table:
    """Provenance, one column per run; values that differ are highlighted."""
    columns = [dict(facts(c.run)) for c in compared_runs]
    rows = []
    for label in dict.fromkeys(key for column in columns for key in column):
        texts = [column.get(label, "") for column in columns]
        rows.append((Cell(text=label), *(Cell(text=text, strong=len({*texts}) > 1) for text in texts)))
    return Table(title="", head=("", *(c.label for c in compared_runs)), rows=tuple(rows), prose=True)
