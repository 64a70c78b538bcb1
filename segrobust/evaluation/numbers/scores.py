"""What a network scores over images: one record of each."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from segrobust.evaluation.numbers.bootstrap import Bootstrap
from segrobust.evaluation.numbers.summary import ObjectRecall, Scores, SuccessAt, WorstImages
from segrobust.evaluation.numbers.worst_case import miou_of_counts
from segrobust.evaluation.run.records import Record
from segrobust.metrics import SIZES, ConfusionCounts, iou_per_class, miou_image, segmentation_scores

APSR_SWEEP: Final = (0.9, 0.95, 0.99)
"""Shares of broken pixels at which success rates are told."""

WORST_SHARES: Final = (0.05, 0.1, 0.25)
"""Shares of images whose lowest scores are averaged."""


def scores(records: Sequence[Record], eps: float, bound: str, bootstrap: Bootstrap) -> Scores:
    """Scores over records of different images."""
    counts = ConfusionCounts(tp=_table(records, "tp"), fp=_table(records, "fp"), fn=_table(records, "fn"))
    total = segmentation_scores(counts)
    per_class = counts.tp.double() / (counts.tp + counts.fn)
    ids = [record.sample_id for record in records]
    table = torch.stack((counts.tp, counts.fp, counts.fn), 1).numpy()
    border, inside = _boundary_accuracy(records)
    return Scores(
        eps=eps,
        num_images=len(records),
        miou=total.miou,
        miou_image=miou_image(counts).item(),
        accuracy=total.accuracy,
        mean_class_accuracy=total.mean_class_accuracy,
        mean_apsr=mean_of([record.apsr for record in records]),
        mean_clean_apsr=mean_of([record.clean_apsr for record in records]),
        asr=mean_of([float(record.success) for record in records]),
        asr_by_apsr=tuple(
            SuccessAt(apsr=apsr, asr=mean_of([float(record.apsr >= apsr) for record in records])) for apsr in APSR_SWEEP
        ),
        mean_class_apsr=1 - per_class.nanmean(1).mean().item(),
        worst_images=tuple(_worst_images(counts, q) for q in WORST_SHARES),
        boundary_accuracy=border,
        interior_accuracy=inside,
        objects=_object_recall(records),
        miou_band=bootstrap.of_sums(ids, table, miou_of_counts),
        accuracy_band=bootstrap.of_sums(
            ids, table.sum(2), lambda sums: sums[:, 0] / np.fmax(sums[:, 0] + sums[:, 2], 1)
        ),
        iou=total.iou,
        bound=bound,
    )


def _worst_images(counts: ConfusionCounts, q: float) -> WorstImages:
    """Means over the lowest `q` of the images, at least one."""
    right = counts.tp.sum(1).double() / (counts.tp + counts.fn).sum(1)
    keep = math.ceil(q * len(right))
    lowest = [values.sort().values[:keep].mean().item() for values in (iou_per_class(counts).nanmean(1), right)]
    return WorstImages(q=q, miou_image=lowest[0], accuracy=lowest[1])


def _boundary_accuracy(records: Sequence[Record]) -> tuple[float, float]:
    """Share of right pixels near borders, and elsewhere; nan where there are none or a record does not tell."""
    bands = [record.boundary for record in records if record.boundary is not None]
    if len(bands) < len(records):
        return math.nan, math.nan
    near, right_near = (sum(band[index] for band in bands) for index in (0, 1))
    pixels, right = (sum(sum(r.tp) + sum(r.fn) for r in records), sum(sum(r.tp) for r in records))
    return _share(right_near, near), _share(right - right_near, pixels - near)


def _object_recall(records: Sequence[Record]) -> tuple[ObjectRecall, ...]:
    """Recall by size; empty where a record does not tell."""
    tallies = [record.objects for record in records if record.objects is not None]
    if len(tallies) < len(records):
        return ()
    sums = [[sum(tally[size][column] for tally in tallies) for column in range(4)] for size in range(len(SIZES))]
    return tuple(
        ObjectRecall(size=name, num_objects=count, found=_share(found, count), pixels=_share(right, pixels))
        for name, (count, found, pixels, right) in zip(SIZES, sums, strict=True)
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _table(records: Sequence[Record], name: str) -> Tensor:
    return torch.tensor([getattr(record, name) for record in records], dtype=torch.int64)


def mean_of(values: Sequence[float]) -> float:
    """The mean of at least one number."""
    return sum(values) / len(values)
