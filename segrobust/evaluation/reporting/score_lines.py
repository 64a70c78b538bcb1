"""Lines of a summary: scores by radius under one attack or the worst of several, and minimal norms."""

from dataclasses import dataclass
from typing import Literal

from segrobust.evaluation.numbers.metrics import METRICS, in_place
from segrobust.evaluation.numbers.summary import (
    BOUND_BY_PRODUCT,
    BOUND_FIXED,
    BOUND_WORST,
    Cost,
    FixedBudgetSummary,
    MinimalNormSummary,
    NormLine,
    Scores,
    Summary,
)
from segrobust.evaluation.reporting.format import radius_text, value_text
from segrobust.functional.norms import NormName, norm_order

Scope = Literal["worst case", "attack", "by-product"]

_PREFERRED_EPS = 4 / 255


@dataclass(frozen=True, kw_only=True)
class Line:
    """Scores by radius.

    Attributes:
        scope: "worst case" per image over several attacks, one "attack", or "by-product" of a minimal-norm attack.
        label: shown in tables and plots.
        attack: name of the job; empty for a worst case.
        norm_name: the norm.
        digests: of the attacks behind the numbers.
        scores: one entry per radius.
        bound: which kind of bound they are.
        cost: of an attack at all radii together; None for other lines.
    """

    scope: Scope
    label: str
    attack: str = ""
    norm_name: NormName
    digests: tuple[str, ...]
    scores: tuple[Scores, ...]
    bound: str
    cost: Cost | None = None

    def at(self, eps: float) -> Scores | None:
        """Scores at a radius; None where they were not measured."""
        return next((entry for entry in self.scores if entry.eps == eps), None)

    @property
    def num_images(self) -> int:
        """The largest number of images at a radius."""
        return max(entry.num_images for entry in self.scores)

    def text(self, eps: float, separator: str, width: int = 0) -> str:
        """The headline metrics at a radius, each filled to `width`; empty where they were not measured."""
        found = self.at(eps)
        if found is None:
            return ""
        return separator.join(f"{value_text(metric, found):>{width}}" for metric in in_place(METRICS, "headline"))


def score_lines(summary: Summary) -> tuple[Line, ...]:
    """All lines: worst cases, attacks, by-products."""
    worst = (
        Line(
            scope="worst case",
            label=f"worst of {len(entry.attacks)} attacks",
            norm_name=entry.norm_name,
            digests=tuple(e.digest for e in summary.fixed_budget if e.norm_name == entry.norm_name),
            scores=entry.scores,
            bound=BOUND_WORST,
        )
        for entry in summary.worst_case
    )
    by_products = (entry for entry in summary.minimal_norm if entry.by_products)
    return (*worst, *map(_line_of, summary.fixed_budget), *map(_line_of, by_products))


def _line_of(entry: FixedBudgetSummary | MinimalNormSummary) -> Line:
    """The scores of a fixed-budget attack, or the by-products of a minimal-norm attack."""
    of_norms = isinstance(entry, MinimalNormSummary)
    return Line(
        scope="by-product" if of_norms else "attack",
        label=f"by-product of {entry.attack}" if of_norms else entry.attack,
        attack=entry.attack,
        norm_name=entry.norm_name,
        digests=(entry.digest,),
        scores=entry.by_products if isinstance(entry, MinimalNormSummary) else entry.scores,
        bound=BOUND_BY_PRODUCT if of_norms else BOUND_FIXED,
        cost=None if of_norms else entry.cost,
    )


@dataclass(frozen=True, kw_only=True)
class ScoreGrid:
    """All lines of one norm: the rows of a table with a column for each radius."""

    norm_name: NormName
    lines: tuple[Line, ...]

    @property
    def radii(self) -> list[float]:
        """All radii of the lines, in ascending order."""
        return sorted({scores.eps for line in self.lines for scores in line.scores})

    @property
    def bounds(self) -> list[str]:
        """What the numbers are bounds of, one text for each scope."""
        return [f"{scope}: {bound}" for scope, bound in {line.scope: line.bound for line in self.lines}.items()]


def score_grids(summary: Summary) -> tuple[ScoreGrid, ...]:
    """`score_lines` by norm, l_inf first."""
    lines = score_lines(summary)
    names = sorted({line.norm_name for line in lines}, key=norm_order)
    return tuple(ScoreGrid(norm_name=n, lines=tuple(line for line in lines if line.norm_name == n)) for n in names)


@dataclass(frozen=True, kw_only=True)
class Strongest:
    """Per radius the line with the lowest mIoU^D: all are upper bounds on the same score, so this is the tightest.

    Attributes:
        norm_name: the norm.
        scores: one entry per radius.
        lines: the line of each entry.
    """

    norm_name: NormName
    scores: tuple[Scores, ...]
    lines: tuple[Line, ...]

    @property
    def headline(self) -> tuple[Scores, Line]:
        """Scores at the radius of the headline: 4/255, usual in the field, if it was measured; else the largest."""
        usual = [index for index, entry in enumerate(self.scores) if abs(entry.eps - _PREFERRED_EPS) < 1e-6]
        index = usual[0] if usual else len(self.scores) - 1
        return self.scores[index], self.lines[index]

    @property
    def line(self) -> Line:
        """All entries as one line."""
        return Line(
            scope="worst case",
            label="strongest attack at each eps",
            norm_name=self.norm_name,
            digests=self.digests,
            scores=self.scores,
            bound=BOUND_WORST,
        )

    @property
    def digests(self) -> tuple[str, ...]:
        """Of all attacks behind the numbers."""
        return tuple(dict.fromkeys(digest for line in self.lines for digest in line.digests))

    @property
    def note(self) -> str:
        """The attack behind the numbers of each radius, and which kind of bound they are."""
        labels = dict.fromkeys(line.label for line in self.lines)
        found = {
            label: [s.eps for s, line in zip(self.scores, self.lines, strict=True) if line.label == label]
            for label in labels
        }
        texts = [
            f"{label} at {', '.join(radius_text(eps, self.norm_name) for eps in radii)}"
            for label, radii in found.items()
        ]
        return f"Upper bounds, at each eps under the attack with the lowest mIoU^D: {'; '.join(texts)}"


def strongest(summary: Summary) -> tuple[Strongest, ...]:
    """One entry per norm in which scores at radii were measured, l_inf first.

    During a run, lines differ in their images: those over the most images count.
    """
    found = []
    for grid in score_grids(summary):
        pairs = [(scores, line) for line in grid.lines for scores in line.scores]
        best = [
            min((pair for pair in pairs if pair[0].eps == eps), key=lambda pair: (-pair[0].num_images, pair[0].miou))
            for eps in grid.radii
        ]
        scores, lines = zip(*best, strict=True)
        found.append(Strongest(norm_name=grid.norm_name, scores=scores, lines=lines))
    return tuple(found)


def norm_lines(summary: Summary) -> dict[NormName, tuple[NormLine, ...]]:
    """Minimal norms by norm, l_inf first: the smallest of several attacks, if there are several, then each."""
    entries: tuple[NormLine, ...] = (*summary.smallest_norm, *summary.minimal_norm)
    names = sorted({entry.norm_name for entry in entries}, key=norm_order)
    return {name: tuple(entry for entry in entries if entry.norm_name == name) for name in names}


def strongest_norms(summary: Summary) -> tuple[NormLine, ...]:
    """One entry per norm, l_inf first: the smallest of several attacks, or the only attack.

    If no image has results of all attacks, the attack that ran on the most images; ties go to the one with the smallest
    norms.
    """
    return tuple(
        min(
            lines,
            key=lambda entry: (
                isinstance(entry, MinimalNormSummary),
                -entry.num_images,
                entry["median"],
                -entry["asr"],
            ),
        )
        for lines in norm_lines(summary).values()
    )
