"""Scores of a network at one radius, from one record per image."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from segrobust.evaluation.numbers.bootstrap import Bootstrap
from segrobust.evaluation.numbers.metric_inputs import counts
from segrobust.evaluation.numbers.metrics import METRICS, Metric
from segrobust.evaluation.numbers.summary import Scores
from segrobust.evaluation.run.records import Record
from segrobust.metrics import iou_per_class


def scores(records: Sequence[Record], eps: float, bound: str, bootstrap: Bootstrap) -> Scores:
    """Scores over records of different images."""
    confusion, ids = counts(records), [record.sample_id for record in records]
    table = np.stack([confusion.tp.numpy(), confusion.fp.numpy(), confusion.fn.numpy()], 1)
    values, objects = compute(METRICS, records)
    return Scores(
        eps=eps,
        num_images=len(records),
        values=values,
        objects=objects,
        intervals={m.key: bootstrap.of_sums(ids, table, m.interval) for m in METRICS if m.interval is not None},
        iou=tuple(iou_per_class(confusion.total()).tolist()),
        bound=bound,
    )


def compute(metrics: Iterable[Metric[Any]], records: Sequence[Record]) -> tuple[dict[str, float], dict[str, int]]:
    """Values of metrics over records of different images, and the numbers of objects behind those that count some."""
    metrics = tuple(metrics)
    inputs = {needs: needs(records) for needs in {metric.needs for metric in metrics}}
    known = [metric for metric in metrics if inputs[metric.needs] is not None]
    values = {metric.key: math.nan for metric in metrics}
    values |= {metric.key: metric.compute(inputs[metric.needs]) for metric in known}
    return values, {metric.key: metric.count(inputs[metric.needs]) for metric in known if metric.count is not None}
