"""Bootstrap intervals: how much numbers depend on the choice of images."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from segrobust.evaluation.numbers.summary import Interval, Resampling
from segrobust.evaluation.run.records import Record

Floats = npt.NDArray[np.float64]

REPLICATES: Final = 1000
LEVEL: Final = 0.95
FEWEST_SEQUENCES: Final = 5
"""With fewer recordings than this, images are resampled."""


@dataclass(frozen=True)
class Bootstrap:
    """Draws images with replacement, many times; recordings instead if there are enough of them.

    Images of one recording are similar, so resampling single images gives intervals that are too narrow. With too few
    recordings this cannot be avoided, and `resampling` is "image".

    The draws depend on the recordings alone, so that all numbers of an evaluation use the same draws.

    Source: Efron, 1979; of clusters: Davison and Hinkley, "Bootstrap Methods", 1997, section 3.8.

    Args:
        sequence_by_sample: recording of each image.
    """

    sequence_by_sample: dict[int, str]

    @classmethod
    def of(cls, records: Collection[Record]) -> "Bootstrap":
        """For the images of these records."""
        return cls({record.sample_id: record.sequence for record in records})

    @property
    def resampling(self) -> Resampling:
        """Whether images or recordings are drawn."""
        count = len(set(self.sequence_by_sample.values()))
        return "sequence" if FEWEST_SEQUENCES <= count < len(self.sequence_by_sample) else "image"

    @cached_property
    def _clusters(self) -> dict[int, int]:
        """Number of the cluster of each image."""
        by_sequence = self.resampling == "sequence"
        keys = {i: name if by_sequence else i for i, name in sorted(self.sequence_by_sample.items())}
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys.values()))}
        return {sample_id: numbers[key] for sample_id, key in keys.items()}

    @cached_property
    def _draws(self) -> Floats:
        """How often each cluster is drawn, `(REPLICATES, clusters)`."""
        count = len(set(self._clusters.values()))
        return np.random.default_rng(0).multinomial(count, [1 / count] * count, REPLICATES).astype(np.float64)

    def of_sums(self, sample_ids: Sequence[int], values: npt.ArrayLike, score: Callable[[Floats], Floats]) -> Interval:
        """Interval of a score of sums over images.

        Args:
            sample_ids: N images.
            values: `(N, ...)`, the summands.
            score: from `(R, ...)` sums to `(R,)` scores; nan if a replicate has none.
        """
        table = np.asarray(values, dtype=np.float64)
        if self._is_too_small:
            return Interval(low=np.nan, high=np.nan)
        sums = np.zeros((self._draws.shape[1], *table.shape[1:]))
        np.add.at(sums, [self._clusters[sample_id] for sample_id in sample_ids], table)
        replicates = (self._draws @ sums.reshape(len(sums), -1)).reshape(-1, *table.shape[1:])
        return _interval(score(replicates))

    def of_mean(self, sample_ids: Sequence[int], values: Sequence[float]) -> Interval:
        """Interval of a mean over images."""
        table = [(value, 1.0) for value in values]
        return self.of_sums(sample_ids, table, lambda sums: sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan))

    def of_median(self, sample_ids: Sequence[int], values: Sequence[float]) -> Interval:
        """Interval of the median, the least value that half of the images do not exceed; values may be inf."""
        if self._is_too_small:
            return Interval(low=np.nan, high=np.nan)
        order = np.argsort(values, kind="stable")
        weights = self._draws[:, [self._clusters[sample_ids[index]] for index in order]]
        reached = weights.cumsum(1) >= 0.5 * weights.sum(1, keepdims=True)
        return _interval(np.asarray(values, dtype=np.float64)[order][reached.argmax(1)])

    @property
    def _is_too_small(self) -> bool:
        return len(set(self._clusters.values())) < 2


def _interval(replicates: Floats) -> Interval:
    """Percentiles by order statistics, because inf cannot be interpolated."""
    finite = np.sort(replicates[~np.isnan(replicates)])
    if len(finite) == 0:
        return Interval(low=np.nan, high=np.nan)
    tail = (1 - LEVEL) / 2
    low, high = (finite[round(p * (len(finite) - 1))] for p in (tail, 1 - tail))
    return Interval(low=float(low), high=float(high))
