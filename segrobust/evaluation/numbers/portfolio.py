"""An ensemble chosen from records: attack by attack, by what each gains per pass."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np

from segrobust.evaluation.numbers.worst_case import Counts, lowest_miou, miou_of_counts
from segrobust.evaluation.run.records import Record

PortfolioMetric = Literal["aacc", "miou"]
_PARTS: Final = 8
"""Parts into which the images are divided for the estimate on other images; each image is one with fewer."""

_LEAST_GAIN: Final = 1e-12


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An attack at one radius, with its number of passes.

    Attributes:
        name: for tables.
        digest: of the attack's identity.
        records: by image; all candidates have the same images.
    """

    name: str
    digest: str
    records: Mapping[str, Record]

    @cached_property
    def passes(self) -> float:
        """A pass is one forward and one backward: half of both together, averaged over images."""
        spent = [record.num_forwards + record.num_backwards for record in self.records.values()]
        return sum(spent) / len(spent) / 2


@dataclass(frozen=True, kw_only=True)
class Step:
    """One attack of an ensemble, in the order in which they are chosen.

    Attributes:
        candidate: the attack.
        passes: of the ensemble up to this attack, per image.
        left: metric under the ensemble up to this attack, in [0, 1].
        held_out_passes: the same of the ensembles that are chosen without an image, averaged over images.
        held_out: metric where each image is judged by an ensemble that was chosen without it; nan with one image.
    """

    candidate: Candidate
    passes: float
    left: float
    held_out_passes: float
    held_out: float


@dataclass(frozen=True, kw_only=True)
class Portfolio:
    """An ensemble, and what it is compared with.

    Attributes:
        metric: what it lowers: pixel accuracy, or mIoU^D.
        num_images: images.
        clean: metric without attack.
        steps: the attacks, until none lowers the metric further.
        every: metric under all candidates together.
        every_passes: their passes per image.
    """

    metric: PortfolioMetric
    num_images: int
    clean: float
    steps: tuple[Step, ...]
    every: float
    every_passes: float


def choose_portfolio(
    candidates: Sequence[Candidate], clean: Mapping[str, Record], metric: PortfolioMetric, members: int
) -> Portfolio:
    """Chooses greedily: the next attack is the one with the largest gain per pass.

    For accuracy the gain of an attack shrinks as others are added. Therefore, an ensemble that was chosen for l passes
    has at least the share 1 - exp(-l / c) of the gain of any ensemble of c passes. mIoU^D is no sum over images, and
    has no such bound.

    Source of the method: AutoAE, Liu et al., AAAI 2023 (arXiv 2211.12713); of the bound: Streeter and Golovin, NeurIPS
    2008.

    Args:
        candidates: at least one; all on the images of `clean`.
        clean: records without attack, by image.
        metric: "aacc" or "miou".
        members: most attacks.
    """
    images = sorted(clean)
    table, rows = _Table(candidates, clean, images, metric), range(len(images))
    chosen, every = table.greedy(rows, members), range(len(candidates))
    without = _chosen_without(table, len(images), members) if len(images) > 1 else {}
    return Portfolio(
        metric=metric,
        num_images=len(images),
        clean=table.left_by(rows, ()),
        steps=tuple(
            Step(
                candidate=candidates[member],
                passes=table.passes(chosen[:size]),
                left=table.left_by(rows, chosen[:size]),
                **_on_other_images(table, {row: picks[:size] for row, picks in without.items()}),
            )
            for size, member in enumerate(chosen, start=1)
        ),
        every=table.left_by(rows, every),
        every_passes=table.passes(every),
    )


def _chosen_without(table: "_Table", num_images: int, members: int) -> dict[int, list[int]]:
    """For each image the attacks that are chosen on the others; images of one part share the choice."""
    num_parts = min(_PARTS, num_images)
    found: dict[int, list[int]] = {}
    for part in range(num_parts):
        chosen = table.greedy([row for row in range(num_images) if row % num_parts != part], members)
        found |= dict.fromkeys(range(part, num_images, num_parts), chosen)
    return found


def _on_other_images(table: "_Table", members: Mapping[int, Sequence[int]]) -> dict[str, float]:
    """Metric and mean number of passes where each image has attacks of its own; nan without images."""
    if not members:
        return {"held_out": math.nan, "held_out_passes": math.nan}
    passes = sum(map(table.passes, members.values())) / len(members)
    return {"held_out": table.left(members), "held_out_passes": passes}


class _Table:
    """Counts of every image without attack and under every candidate: `(images, 1 + candidates, 3, K)`."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        clean: Mapping[str, Record],
        images: Sequence[str],
        metric: PortfolioMetric,
    ) -> None:
        columns = (clean, *(each.records for each in candidates))
        self._counts: Counts = np.array(
            [[_counts(column[image]) for column in columns] for image in images], dtype=np.int64
        )
        self._passes = [each.passes for each in candidates]
        self._metric = metric

    def passes(self, members: Sequence[int]) -> float:
        """Of some candidates together, per image."""
        return sum(self._passes[member] for member in members)

    def greedy(self, rows: Sequence[int], most: int) -> list[int]:
        """Positions of candidates, in the order in which they are chosen on some images."""
        chosen: list[int] = []
        while len(chosen) < most:
            now = self.left_by(rows, chosen)
            rest = (member for member in range(len(self._passes)) if member not in chosen)
            gains = {member: now - self.left_by(rows, [*chosen, member]) for member in rest}
            best = max(gains, key=lambda member: gains[member] / max(self._passes[member], 1.0), default=None)
            if best is None or gains[best] <= _LEAST_GAIN:
                break
            chosen.append(best)
        return chosen

    def left_by(self, rows: Sequence[int], members: Sequence[int]) -> float:
        """The metric over some images, each attacked by the same candidates."""
        return self.left(dict.fromkeys(rows, members))

    def left(self, members: Mapping[int, Sequence[int]]) -> float:
        """The metric over the images that have members, if each may be attacked by one of its own, or by none."""
        options = [self._counts[row][[0, *(member + 1 for member in own)]] for row, own in members.items()]
        correct = [each[:, 0].sum(-1) for each in options]
        if self._metric == "aacc":
            return sum(int(each.min()) for each in correct) / int(sum(each[0, (0, 2)].sum() for each in options))
        alone = ([place] * len(options) for place in range(min(map(len, options))))
        choice = lowest_miou(options, [[int(each.argmin()) for each in correct], *alone])
        return float(miou_of_counts(sum(each[place] for each, place in zip(options, choice, strict=True))))


def _counts(record: Record) -> tuple[tuple[int, ...], ...]:
    return record.tp, record.fp, record.fn
