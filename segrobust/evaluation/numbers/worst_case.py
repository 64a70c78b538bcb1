"""Per image the worst of several attacks, as for an adversary who may choose among them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from segrobust.evaluation.run.records import Record

Counts = npt.NDArray[np.int64]
Goal = Literal["accuracy", "miou"]
"""The score that a choice of one attack per image minimises."""

RANDOM_STARTS = 8


def within(records: Iterable[Record], eps: float) -> list[list[Record]]:
    """Per image its records whose radius is at most `eps`, because larger balls contain smaller ones."""
    by_image: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        if isinstance(record.eps, float) and record.eps <= eps:
            by_image[record.sample_id].append(record)
    return list(by_image.values())


def worst_for_accuracy(candidates: Sequence[Sequence[Record]]) -> list[Record]:
    """Per image the record that breaks most pixels, the first of a tie: the exact minimum of aAcc over all choices."""
    return [max(records, key=lambda record: record.apsr) for records in candidates]


def worst_for_miou(candidates: Sequence[Sequence[Record]], seed: int = 0) -> list[Record]:
    """Per image a record, such that mIoU^D is low: at most that of any single attack that has records of all images.

    mIoU^D is no mean over images, so the best choice for one image depends on the others, and an exhaustive search is
    infeasible. A greedy search starts from each attack alone, from the records that break most pixels, and from random
    choices. In random order, each image takes the record that lowers mIoU^D most, until no change helps. The lowest
    result counts.

    Source: SEA, Croce, Singh and Hein, ECCV 2024 (arXiv 2306.12941), which starts from the best attack alone.

    Args:
        candidates: per image at least one record.
        seed: of random choices and orders.
    """
    counts = [np.array([(r.tp, r.fp, r.fn) for r in records], dtype=np.int64) for records in candidates]
    best = lowest_miou(counts, _starts(candidates), seed)
    return [records[index] for records, index in zip(candidates, best, strict=True)]


def lowest_miou(counts: Sequence[Counts], starts: Iterable[Sequence[int]], seed: int = 0) -> list[int]:
    """The same search over counts: per image the position of its choice; the first start stays if nothing is lower.

    Args:
        counts: per image `(M, 3, K)`: true positives, false positives and false negatives of M candidates.
        starts: choices from which the search starts, besides random ones.
        seed: of random choices and orders.
    """
    rng = np.random.default_rng(seed)
    starts = [*starts, *([int(rng.integers(len(c))) for c in counts] for _ in range(RANDOM_STARTS))]
    ends = [_descend(counts, start, rng) for start in starts]
    return min(ends, key=lambda chosen: float(miou_of_counts(_sum_of(counts, chosen))))


def _starts(candidates: Sequence[Sequence[Record]]) -> list[list[int]]:
    """The records that break most pixels, and those of each (attack, radius) that all images have."""
    starts = [[max(range(len(records)), key=lambda i: records[i].apsr) for records in candidates]]
    for digest, eps in {(record.digest, record.eps): None for records in candidates for record in records}:
        places = [[i for i, r in enumerate(records) if (r.digest, r.eps) == (digest, eps)] for records in candidates]
        if all(places):
            starts.append([found[0] for found in places])
    return starts


def _descend(counts: Sequence[Counts], start: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Greedily changes one image at a time, in a new random order in each round, until no change helps."""
    chosen, total = list(start), _sum_of(counts, start)
    improved = True
    while improved:
        improved = False
        for image in rng.permutation(len(counts)):
            options = counts[image]
            others = total - options[chosen[image]]
            scores = miou_of_counts(others + options)
            best = int(scores.argmin())
            if scores[best] < scores[chosen[image]] - 1e-12:
                chosen[image], total, improved = best, others + options[best], True
    return chosen


def _sum_of(counts: Sequence[Counts], chosen: Sequence[int]) -> Counts:
    """Counts `(3, K)` of one record per image."""
    total: Counts = np.sum([options[index] for options, index in zip(counts, chosen, strict=True)], axis=0)
    return total


def miou_of_counts(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """mIoU^D of counts `(..., 3, K)`: classes present in the ground truth, which is the same for all choices."""
    tp, fp, fn = (counts[..., row, :] for row in range(3))
    present = tp + fn > 0
    iou = np.where(present, tp / np.maximum(tp + fp + fn, 1), 0.0)
    mean: npt.NDArray[np.float64] = iou.sum(-1) / np.maximum(present.sum(-1), 1)
    return mean
