"""Inputs of metrics: parts of the records of different images, none of them flagged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from segrobust.evaluation.run.records import Record
from segrobust.functional.norms import NormName
from segrobust.metrics import SIZES, ConfusionCounts, Tally

CAPS: Final[dict[NormName, float]] = {"linf": 32 / 255, "l2": 32.0, "l1": 8192.0}
"""Caps of norms for means and medians of min(norm, cap): larger perturbations are clearly visible."""


@dataclass(frozen=True, kw_only=True)
class RegionCounts:
    """Pixels and objects of all images together.

    Attributes:
        border: valid pixels near borders between classes, and how many of them are classified correctly.
        interior: the same of all other valid pixels.
        objects: one tally for each of `segrobust.metrics.SIZES`.
    """

    border: tuple[int, int]
    interior: tuple[int, int]
    objects: tuple[Tally, ...]


@dataclass(frozen=True, kw_only=True)
class ImageShares:
    """One value per image.

    Attributes:
        apsr: share of broken pixels.
        clean_apsr: the same without attack.
        success: whether the criterion of success is met.
    """

    apsr: tuple[float, ...]
    clean_apsr: tuple[float, ...]
    success: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class Norms:
    """Minimal norms of one kind.

    Attributes:
        values: `(N,)` float64, image units; inf where the attack failed.
        cap: of min(norm, cap).
    """

    values: Tensor
    cap: float


def counts(records: Sequence[Record]) -> ConfusionCounts:
    """Confusion counts of every image and class, `(B, K)`."""
    return ConfusionCounts(tp=_table(records, "tp"), fp=_table(records, "fp"), fn=_table(records, "fn"))


def regions(records: Sequence[Record]) -> RegionCounts | None:
    """Counts near borders, elsewhere and by size of objects; None if a record has none."""
    borders = [record.boundary for record in records if record.boundary is not None]
    tallies = [record.objects for record in records if record.objects is not None]
    if min(len(borders), len(tallies)) < len(records):
        return None
    pixels, correct = (sum(border[column] for border in borders) for column in (0, 1))
    all_pixels, all_correct = (sum(sum(r.tp) + sum(r.fn) for r in records), sum(sum(r.tp) for r in records))
    return RegionCounts(
        border=(pixels, correct),
        interior=(all_pixels - pixels, all_correct - correct),
        objects=tuple(_sum_of([tally[size] for tally in tallies]) for size in range(len(SIZES))),
    )


def images(records: Sequence[Record]) -> ImageShares:
    """Shares and successes of every image."""
    return ImageShares(
        apsr=tuple(record.apsr for record in records),
        clean_apsr=tuple(record.clean_apsr for record in records),
        success=tuple(record.success for record in records),
    )


def norms(records: Sequence[Record]) -> Norms:
    """Norms of the perturbations of one minimal-norm attack, or the smallest of several."""
    values = torch.tensor([record.norm for record in records], dtype=torch.float64)
    return Norms(values=values, cap=CAPS[records[0].norm_name or "linf"])


def _table(records: Sequence[Record], name: str) -> Tensor:
    return torch.tensor([getattr(record, name) for record in records], dtype=torch.int64)


def _sum_of(tallies: Sequence[Tally]) -> Tally:
    num, found, pixels, correct = (sum(column) for column in zip(*tallies, strict=True))
    return num, found, pixels, correct
