"""What was measured of networks: a card for each, a table and a picture of all."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from segrobust.evaluation import Report, read_records
from segrobust.evaluation.reporting import figure_colors

STANDARD = "camvid_standard"
COLORS = (*figure_colors.COLORS, "#999999", "#7F4F24")
"""One for each recipe. Networks that no recipe trained are black."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What was measured of one network; scores in percent, norms in x/255 (None where the attack failed)."""

    name: str
    num_images: int
    sea_steps: int
    clean_miou: float
    clean_accuracy: float
    worst_miou: float
    worst_accuracy: float
    norms: tuple[float | None, ...]
    failed_checks: tuple[str, ...]

    @classmethod
    def of(cls, name: str, report: Report, run_dir: Path, *, eps: float, sea_steps: int) -> "Card":
        """From an evaluation with SEA at one radius and one minimal-norm attack."""
        summary = report.summary
        assert summary.clean is not None, "the images have valid pixels"
        (worst,) = (scores for case in summary.worst_case for scores in case.scores if scores.eps == eps)
        records = sorted((r for r in read_records(run_dir) if r.kind == "minimal-norm"), key=lambda r: r.sample_id)
        return cls(
            name=name,
            num_images=summary.num_images,
            sea_steps=sea_steps,
            clean_miou=100 * summary.clean.miou,
            clean_accuracy=100 * summary.clean.accuracy,
            worst_miou=100 * worst.miou,
            worst_accuracy=100 * worst.accuracy,
            norms=tuple(255 * r.norm if math.isfinite(r.norm) else None for r in records),
            failed_checks=tuple(check.name for check in report.checks if check.status == "fail"),
        )

    @property
    def recipe(self) -> str:
        """The name without the seed."""
        return self.name.partition("-seed")[0]

    @property
    def family(self) -> str:
        """The name without the seed and the length of the training."""
        return self.recipe.partition("-")[0]

    @property
    def geometric_mean(self) -> float:
        """Of the minimal norms; inf where the attack failed on an image."""
        if any(norm is None for norm in self.norms):
            return math.inf
        return statistics.geometric_mean(max(norm or 0, 1e-9) for norm in self.norms)


def read_cards(folder: Path) -> list[Card]:
    """All cards of a folder."""
    cards = []
    for path in sorted(folder.glob("*.json")):
        entry = json.loads(path.read_text())
        cards.append(Card(**entry | {key: tuple(entry[key]) for key in ("norms", "failed_checks")}))
    return cards


def by_recipe(cards: Iterable[Card]) -> list[list[Card]]:
    """Cards that differ by the seed alone, together; the most robust recipe first."""
    groups: dict[tuple[str, int, int], list[Card]] = {}
    for card in cards:
        groups.setdefault((card.recipe, card.num_images, card.sea_steps), []).append(card)
    return sorted(groups.values(), key=lambda group: -statistics.fmean(card.worst_miou for card in group))


def table(cards: Sequence[Card]) -> str:
    """Cards in Markdown, a row for all seeds of a recipe: means, and ranges in brackets."""
    standard = next((card for card in cards if card.name == STANDARD), None)
    lines = [
        "| network | seeds | images | SEA steps | clean mIoU^D | clean aAcc | SEA 4/255 mIoU^D | SEA 4/255 aAcc "
        "| SEA / clean mIoU | clean mIoU / standard | norm in x/255 | norm / standard | failed checks |",
        "|" + "---|" * 13,
    ]
    for group in by_recipe(cards):
        scores = (
            _cell([card.clean_miou for card in group]),
            _cell([card.clean_accuracy for card in group]),
            _cell([card.worst_miou for card in group]),
            _cell([card.worst_accuracy for card in group]),
            _cell([card.worst_miou / card.clean_miou for card in group], digits=2),
            "-" if standard is None else _cell([c.clean_miou / standard.clean_miou for c in group], digits=2),
            _cell([card.geometric_mean for card in group], digits=2),
            "-" if standard is None else _cell([c.geometric_mean / standard.geometric_mean for c in group]),
            ", ".join(sorted({check for card in group for check in card.failed_checks})) or "none",
        )
        first = group[0]
        lines.append(
            f"| {first.recipe} | {len(group)} | {first.num_images} | {first.sea_steps} | {' | '.join(scores)} |"
        )
    return "\n".join(lines)


def _cell(values: Sequence[float], digits: int = 1) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def draw(cards: Sequence[Card], path: Path) -> None:
    """Scores under SEA against the clean score, and the minimal norms; a point per network, a row per recipe.

    A recipe keeps its colour whatever the length of the training; points are full at the usual length.
    """
    groups = by_recipe(cards)
    trained = [group[0] for group in groups if group[0].family != group[0].name]
    families = dict.fromkeys(card.family for card in trained)
    colors = {family: COLORS[i % len(COLORS)] for i, family in enumerate(families)}
    usual = statistics.mode(card.recipe.removeprefix(card.family) for card in trained) if trained else ""
    styles = {
        card.recipe: _Style(colors.get(card.family, "black"), card in trained and not card.recipe.endswith(usual))
        for card, *_ in groups
    }
    figure = Figure(figsize=(12, 1.6 + 0.4 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    scores, norms = figure.subplots(1, 2)
    _draw_scores(scores, groups, styles)
    _draw_norms(norms, groups, styles)
    for axes in (scores, norms):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


@dataclass(frozen=True)
class _Style:
    """How the points of a recipe look."""

    color: str
    hollow: bool

    @property
    def face(self) -> str:
        """Colour inside a point."""
        return "white" if self.hollow else self.color


def _label(card: Card) -> str:
    """As in `pgd_at, 12 epochs`."""
    length = card.recipe.removeprefix(card.family).removeprefix("-").removesuffix("epochs")
    return f"{card.family}, {length} epochs" if length else card.family


def _draw_scores(axes: Axes, groups: Sequence[Sequence[Card]], styles: dict[str, _Style]) -> None:
    for group in groups:
        style = styles[group[0].recipe]
        clean, worst = [card.clean_miou for card in group], [card.worst_miou for card in group]
        axes.scatter(clean, worst, edgecolors=style.color, facecolors=style.face, s=45, linewidths=1.5, zorder=3)
    right = 1.08 * max(card.clean_miou for group in groups for card in group)
    axes.plot([0, right], [0, right / 2], "--", color="0.6", linewidth=1)
    axes.annotate("half of the clean score", (0.98 * right, 0.37 * right), ha="right", va="top", color="0.45")
    standard = next((group[0] for group in groups if group[0].name == STANDARD), None)
    if standard is not None:
        axes.axvline(0.8 * standard.clean_miou, linestyle=":", color="0.6", linewidth=1)
    left = min(card.clean_miou for group in groups for card in group)
    axes.set_xlim(0.85 * left, right)
    axes.set_ylim(-1, None)
    axes.set_xlabel("clean mIoU$^D$, %  (dotted: 0.8 of the standard network's)")
    axes.set_title("mIoU$^D$ under SEA at 4/255, %  (hollow: other lengths)", loc="left", fontsize=11)


def _draw_norms(axes: Axes, groups: Sequence[Sequence[Card]], styles: dict[str, _Style]) -> None:
    names = [_label(group[0]) for group in reversed(groups)]
    for row, group in enumerate(reversed(groups)):
        values = [norm for card in group for norm in card.norms if norm is not None and norm > 0]
        color = styles[group[0].recipe].color
        axes.scatter(values, [row] * len(values), color=color, alpha=0.35, s=18, linewidths=0)
        axes.scatter([card.geometric_mean for card in group], [row] * len(group), color=color, s=55, marker="|")
    axes.set_yticks(range(len(names)), names)
    for label, group in zip(axes.get_yticklabels(), reversed(groups), strict=True):
        label.set_color(styles[group[0].recipe].color)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("x/255; points are images, bars geometric means")
    axes.set_title("smallest norm that breaks 99 % of the pixels", loc="left", fontsize=11)
