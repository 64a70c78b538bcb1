"""The data of the plots of a page: numbers from summaries and records, for the scripts of the page."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from segrobust.evaluation.numbers.metrics import METRICS, written
from segrobust.evaluation.numbers.smallest_norm import smallest_norms
from segrobust.evaluation.numbers.summary import Interval, NormLine, Scores, SmallestNormSummary, Summary
from segrobust.evaluation.reporting.figure_colors import BLACK, COLORS
from segrobust.evaluation.reporting.format import eps_axis, per_255
from segrobust.evaluation.reporting.headline import NORM_LABELS
from segrobust.evaluation.reporting.score_lines import Line, norm_lines, score_lines, strongest
from segrobust.evaluation.run.records import Record
from segrobust.functional.norms import NormName, norm_order

SYMBOLS: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
DASHES: Final = ("solid", "longdash", "dashdot", "longdashdot")

MENU: Final = {**{metric.key: metric.title for metric in METRICS}, "iou": "IoU of one class"}
"""Titles of the scores in the menu of the curves."""

_MOST_STEPS: Final = 1500


@dataclass(frozen=True)
class Style:
    """The colour, dash and symbol of an attack, or of a run, in all plots of a page."""

    color: str
    symbol: str
    dash: str = "solid"

    @classmethod
    def number(cls, index: int) -> "Style":
        """The style of the attack, or run, of this number."""
        return cls(COLORS[index % 6], SYMBOLS[index % 7], DASHES[index // 6 % 4])


def attack_styles(summary: Summary) -> dict[str, Style]:
    """A style for each attack by its digest."""
    digests = [*(e.digest for e in summary.minimal_norm), *(e.digest for e in summary.fixed_budget)]
    return {digest: Style.number(index) for index, digest in enumerate(dict.fromkeys(digests))}


def report_series(summary: Summary, records: Sequence[Record], classes: Sequence[str]) -> dict[str, object]:
    """All plots of a report, norm by norm."""
    styles, lines, norms = attack_styles(summary), score_lines(summary), norm_lines(summary)
    axes = [
        {
            **norm_axis(name),
            "curves": [
                curve(line, summary.clean, _line_style(line, styles), line.label)
                for line in lines
                if line.norm_name == name
            ],
            "best": [
                curve(found.line, summary.clean, Style(BLACK, "circle-open"), found.line.label)
                for found in strongest(summary)
                if found.norm_name == name
            ],
            "steps": [
                steps(norms_of(records, entry), entry, _norm_style(entry, styles)) for entry in norms.get(name, ())
            ],
            "points": [
                points(e.scores, name, styles[e.digest], e.attack) for e in summary.fixed_budget if e.norm_name == name
            ],
        }
        for name in sorted({*norms, *(line.norm_name for line in lines)}, key=norm_order)
    ]
    return {"norms": axes, "classes": list(classes), "metrics": MENU}


def norm_axis(name: NormName) -> dict[str, object]:
    """Name and title of the axis of a norm."""
    return {
        "name": name,
        "label": NORM_LABELS[name],
        "axis": eps_axis(name, NORM_LABELS[name]),
        "unit": "/255" if name == "linf" else "",
        "per": per_255(name),
    }


def curve(line: Line, clean: Scores | None, style: Style, label: str) -> dict[str, object]:
    """Scores in percent by radius, the clean one first."""
    scores = [*([] if clean is None else [clean]), *line.scores]
    return {
        "label": label + (", weak upper bound" if line.scope == "by-product" else ""),
        "scope": line.scope,
        "color": style.color,
        "symbol": style.symbol,
        "dash": "dot" if line.scope == "by-product" else style.dash,
        "x": [_scaled(entry.eps, line.norm_name) for entry in scores],
        "images": [entry.num_images for entry in scores],
        "values": {m.key: [_percent(entry[m.key]) for entry in scores] for m in METRICS},
        "iou": [[_percent(value) for value in entry.iou] for entry in scores],
        "bands": {
            metric.key: [_band(entry.intervals[metric.key]) for entry in scores]
            for metric in METRICS
            if metric.interval is not None
        },
    }


def norms_of(records: Iterable[Record], entry: NormLine) -> list[float]:
    """Norms over the images that count, of one attack or the smallest of several."""
    return [record.norm for record in smallest_norms(records, entry.digests)]


def steps(norms: Sequence[float], entry: NormLine, style: Style, run: str = "") -> dict[str, object]:
    """The distribution function in percent, whose plateau shows failures; thinned for very many images."""
    finite = sorted(norm for norm in norms if math.isfinite(norm))
    shares = [100 * (index + 1) / len(norms) for index in range(len(finite))]
    every = max(1, -(-len(finite) // _MOST_STEPS))
    shown = [index for index in range(len(finite)) if index % every == every - 1 or index == len(finite) - 1]
    return {
        "label": f"{run}: {entry.label}" if run else entry.label,
        "scope": "worst case" if isinstance(entry, SmallestNormSummary) else "attack",
        "color": style.color,
        "dash": style.dash,
        "x": [_scaled(finite[index], entry.norm_name) for index in shown],
        "y": [round(shares[index], 3) for index in shown],
        "num": len(norms),
        "failed": len(norms) - len(finite),
    }


def points(scores: Sequence[Scores], name: NormName, style: Style, label: str) -> dict[str, object]:
    """Success rates of a fixed-budget attack in percent by radius."""
    return {
        "label": f"{label} at fixed eps",
        "color": style.color,
        "symbol": style.symbol,
        "x": [_scaled(entry.eps, name) for entry in scores],
        "y": [_percent(entry["asr"]) for entry in scores],
    }


def _line_style(line: Line, styles: dict[str, Style]) -> Style:
    return Style(BLACK, "circle-open") if line.scope == "worst case" else styles[line.digests[0]]


def _norm_style(entry: NormLine, styles: dict[str, Style]) -> Style:
    return Style(BLACK, "") if isinstance(entry, SmallestNormSummary) else styles[entry.digest]


def _scaled(eps: float, name: NormName) -> float:
    return round(eps * 255, 5) if name == "linf" else round(eps, 6)


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else round(written("%", share), 3)


def _band(interval: Interval) -> tuple[float | None, float | None]:
    return _percent(interval.low), _percent(interval.high)
