"""Curves over perturbation size, drawn from records alone and without matplotlib's global state."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segrobust.evaluation.numbers.metrics import METRICS, Metric, in_place, written
from segrobust.evaluation.numbers.smallest_norm import smallest_norms
from segrobust.evaluation.numbers.summary import Scores, SmallestNormSummary, Summary
from segrobust.evaluation.reporting.figure_colors import BLACK, COLORS
from segrobust.evaluation.reporting.format import eps_axis
from segrobust.evaluation.reporting.score_lines import norm_lines
from segrobust.evaluation.run.records import Record
from segrobust.functional.norms import NormName
from segrobust.untrusted.regular_files import replace_file

_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_GREY: Final = "#555555"


def norm_curves(records: Sequence[Record], summary: Summary, norm_name: NormName) -> Figure:
    """Images broken within eps: the distribution of minimal norms, and points of fixed-budget attacks.

    A minimal-norm attack that fails on some images ends in a plateau below 100 %. The smallest norms of several attacks
    are thick. The axis is logarithmic.

    Args:
        records: of the evaluation; norms are read from these.
        summary: of the same records.
        norm_name: the norm to draw.

    Raises:
        ValueError: no attack of this norm.
    """
    entries = norm_lines(summary).get(norm_name, ())
    budgets = [entry for entry in summary.fixed_budget if entry.norm_name == norm_name]
    if not entries and not budgets:
        raise ValueError(f"no attack in {norm_name} was recorded; there is nothing to draw")
    norms = {e.label: sorted(record.norm for record in smallest_norms(records, e.digests)) for e in entries}
    figure, axes = _axes("images broken within eps, %", norm_name)
    positive = [norm for values in norms.values() for norm in values if 0 < norm < math.inf]
    radii = [scores.eps for entry in budgets for scores in entry.scores]
    low, high = 0.7 * min([*positive, *radii], default=1 / 255), 1.4 * max([*positive, *radii], default=8 / 255)
    unit = _unit(norm_name)
    combined = sum(isinstance(entry, SmallestNormSummary) for entry in entries)
    for index, (label, values) in enumerate(norms.items(), start=-combined):
        xs, ys = _steps(values, low, high)
        failed = sum(map(math.isinf, values))
        text = label if not failed else f"{label} ({failed} of {len(values)} not broken)"
        color, width = (_style(index)[0], 2.0) if index >= 0 else (BLACK, 3.2)
        axes.step([x * unit for x in xs], ys, where="post", color=color, label=text, linewidth=width)
    for index, budget in enumerate(budgets, start=len(entries) - combined):
        xs, ys = [s.eps * unit for s in budget.scores], [written("%", s["asr"]) for s in budget.scores]
        color, marker = _style(index)
        label = f"{budget.attack} at fixed eps"
        axes.plot(xs, ys, marker, color=color, label=label, clip_on=False, zorder=3)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low * unit, high * unit)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_title(f"Success rates at eps (lower bounds), {summary.num_images} images", loc="left", fontsize=11)
    axes.legend(frameon=False, loc="best", fontsize=9)
    return figure


def score_curves(summary: Summary, norm_name: NormName) -> Figure:
    """Scores under attack over eps, the headline metrics side by side; eps = 0 is the clean score.

    Fixed-budget attacks are solid, their worst case is thick, by-products of minimal-norm attacks are dashed.

    Args:
        summary: of an evaluation.
        norm_name: the norm to draw.

    Raises:
        ValueError: no scores at a radius of this norm.
    """
    fixed = [(e.attack, e.scores, "-", 1.6) for e in summary.fixed_budget if e.norm_name == norm_name]
    worst = [("worst case (greedy)", e.scores, "-", 3.2) for e in summary.worst_case if e.norm_name == norm_name]
    dashed = [
        (f"by-product of {e.attack}", e.by_products, "--", 1.3)
        for e in summary.minimal_norm
        if e.norm_name == norm_name and e.by_products
    ]
    if not fixed and not dashed:
        raise ValueError(f"no scores at a radius in {norm_name} were recorded; there is nothing to draw")
    drawn = [*([] if summary.clean is None else [summary.clean]), *(s for line in (*fixed, *dashed) for s in line[1])]
    radii = {scores.eps * _unit(norm_name) for scores in drawn}
    figure = _figure(10.5)
    metrics = in_place(METRICS, "headline")
    plots = figure.subplots(1, len(metrics), sharex=True, squeeze=False)[0]
    for axes, metric in zip(plots, metrics, strict=True):
        _dress(axes, f"{metric.title}, %", norm_name)
        for index, (label, scores, line, width) in enumerate([*worst, *fixed, *dashed]):
            xs, ys = _curve(summary, scores, metric, norm_name)
            color, marker = (BLACK, "") if (label, scores, line, width) in worst else _style(index)
            axes.plot(xs, ys, line, color=color, marker=marker, markersize=5, label=label, linewidth=width)
        axes.set_xlim(left=0)
        axes.set_xticks(sorted(radii))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    plots[0].set_title(f"Scores under attack (upper bounds), {summary.num_images} images", loc="left", fontsize=11)
    plots[-1].legend(frameon=False, loc="best", fontsize=9)
    return figure


def save_figure(figure: Figure, path: Path, *, root: Path | None = None) -> None:
    """Writes a PNG in one step.

    Args:
        figure: the picture.
        path: of the file.
        root: a folder from which on no link is followed, and below which folders are made; None for that of the file.

    Raises:
        OSError: the folder cannot be written.
    """
    content = BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    replace_file(path, content.getvalue(), root=root)


def _steps(norms: Sequence[float], low: float, high: float) -> tuple[list[float], list[float]]:
    """Corners of the distribution function in percent, from the left edge to the right one."""
    finite = [norm for norm in norms if math.isfinite(norm)]
    start = sum(norm <= low for norm in finite)
    inside = [norm for norm in finite if norm > low]
    shares = [100 * (start + count) / len(norms) for count in range(len(inside) + 1)]
    return [low, *inside, high], [*shares, shares[-1]]


def _curve(
    summary: Summary, scores: Sequence[Scores], metric: Metric[Any], norm_name: NormName
) -> tuple[list[float], list[float]]:
    """Radii in the unit of the axis and scores in percent, the clean one first."""
    points = [*([] if summary.clean is None else [summary.clean]), *scores]
    return [s.eps * _unit(norm_name) for s in points], [written(metric.unit, s[metric.key]) for s in points]


def _style(index: int) -> tuple[str, str]:
    return COLORS[index % 6], _MARKERS[index % 7]


def _unit(norm_name: NormName) -> float:
    return 255.0 if norm_name == "linf" else 1.0


def _figure(width: float) -> Figure:
    return Figure(figsize=(width, 4.2), dpi=130, layout="constrained", facecolor="white")


def _axes(heading: str, norm_name: NormName) -> tuple[Figure, Axes]:
    figure = _figure(6.6)
    axes = figure.subplots()
    _dress(axes, heading, norm_name)
    return figure, axes


def _dress(axes: Axes, heading: str, norm_name: NormName) -> None:
    axes.set_ylim(0, 100)
    axes.set_ylabel(heading)
    axes.set_xlabel(eps_axis(norm_name, norm_name))
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=_GREY)
