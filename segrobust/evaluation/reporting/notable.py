"""The worst and the median image of an evaluation."""

import math
from collections.abc import Sequence

from segrobust.evaluation.numbers.smallest_norm import minimal_norm_attacks, smallest_norms
from segrobust.evaluation.run.records import Record


def notable_samples(records: Sequence[Record]) -> dict[str, int]:
    """The worst and the median image.

    Images are ordered by the smallest norm of any minimal-norm attack, in l_inf if there is one, failures last; without
    such an attack, by the largest share of broken pixels at the largest radius, most broken first. Ties go to the first
    in the data set.

    Args:
        records: of one evaluation.

    Returns:
        Positions of the images by "worst" and "median"; empty without an attack.
    """
    weakness = _norms(records) or _broken_shares(records)
    if not weakness:
        return {}
    ordered = sorted(weakness, key=lambda sample_id: (weakness[sample_id], sample_id))
    return {"worst": ordered[0], "median": ordered[(len(ordered) - 1) // 2]}


def _norms(records: Sequence[Record]) -> dict[int, float]:
    digests = next(iter(minimal_norm_attacks(records).values()), ())
    return {record.sample_id: record.norm for record in smallest_norms(records, digests)}


def _broken_shares(records: Sequence[Record]) -> dict[int, float]:
    """Largest APSR of each image at the largest radius, negative so that small means weak."""
    found = [record for record in records if record.kind == "fixed-budget" and not record.flags]
    largest = max((record.eps for record in found if isinstance(record.eps, float)), default=math.nan)
    weakness: dict[int, float] = {}
    for record in found:
        if record.eps == largest:
            weakness[record.sample_id] = min(weakness.get(record.sample_id, 0.0), -record.apsr)
    return weakness
