"""Which of many witnesses the cells of a bench name; a new choice never leaves more than the one before."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from segrobust.evaluation.bench.bench_file import BenchImage, Entry, RadiusCell
from segrobust.evaluation.numbers.worst_case import lowest_miou, miou_of_counts

Pool = Mapping[int, Sequence[Entry]]
"""Witnesses by sample id; those that cells name already come first, and win ties."""

_SEED: Final = 0


def choose_norm(entries: Sequence[Entry]) -> Entry | None:
    """The smallest norm among the witnesses of one image that break it for certain; None if none does."""
    return min((entry for entry in entries if entry.breaks), key=lambda entry: entry.norm, default=None)


def choose_radius(images: Sequence[BenchImage], pool: Pool, eps: float, before: RadiusCell | None) -> RadiusCell:
    """The worst within a radius, once for accuracy and once for mIoU^D.

    Args:
        images: of the bench.
        pool: at least one witness within `eps` per image, such as the clean image.
        eps: radius, image units.
        before: the cell as it is; its choice stays where no other gives a lower mIoU^D. None for a new radius.
    """
    inside = [[entry for entry in pool[image.sample_id] if entry.within(eps)] for image in images]
    accurate = [min(entries, key=lambda entry: entry.correct) for entries in inside]
    starts = [[entries.index(entry) for entries, entry in zip(inside, accurate, strict=True)]]
    if before is not None:
        starts.insert(0, [_place(entries, cell) for entries, cell in zip(inside, before.worst_miou, strict=True)])
    counts = [np.array([(e.tp, e.fp, e.fn) for e in entries], dtype=np.int64) for entries in inside]
    chosen = [entries[place] for entries, place in zip(inside, lowest_miou(counts, starts, _SEED), strict=True)]
    return RadiusCell(
        eps=eps,
        accuracy=accuracy_of(accurate),
        miou=miou_of(chosen),
        worst_accuracy=tuple(entry.witness for entry in accurate),
        worst_miou=tuple(entry.witness for entry in chosen),
    )


def accuracy_of(entries: Sequence[Entry]) -> float:
    """Pixel accuracy over all images, in [0, 1]."""
    return sum(entry.correct for entry in entries) / sum(sum(entry.tp) + sum(entry.fn) for entry in entries)


def miou_of(entries: Sequence[Entry]) -> float:
    """mIoU^D, in [0, 1]."""
    return float(miou_of_counts(np.array([(e.tp, e.fp, e.fn) for e in entries], dtype=np.int64).sum(0)))


def _place(entries: Sequence[Entry], witness: str) -> int:
    return next(place for place, entry in enumerate(entries) if entry.witness == witness)
