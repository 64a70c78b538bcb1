"""Which images of an evaluation a person should look at."""

import math
from collections.abc import Sequence

from segrobust.evaluation.run.records import Record


def notable_samples(records: Sequence[Record]) -> dict[str, int]:
    """The worst and the median image.

    Images are ordered by the norm of the first minimal-norm attack, failures last; without such an attack by the
    largest share of broken pixels at the largest radius, most broken first. Of equals the first in the data set counts.

    Args:
        records: of one evaluation.

    Returns:
        Positions of the images by "worst" and "median"; empty where nothing was attacked.
    """
    weakness = _norms(records) or _broken_shares(records)
    if not weakness:
        return {}
    ordered = sorted(weakness, key=lambda sample_id: (weakness[sample_id], sample_id))
    return {"worst": ordered[0], "median": ordered[(len(ordered) - 1) // 2]}


def _norms(records: Sequence[Record]) -> dict[int, float]:
    found = [record for record in records if record.kind == "minimal-norm" and not record.flags]
    return {record.sample_id: record.norm for record in found if record.digest == found[0].digest}


def _broken_shares(records: Sequence[Record]) -> dict[int, float]:
    """Largest APSR of each image at the largest radius, negative so that small means weak."""
    found = [record for record in records if record.kind == "fixed-budget" and not record.flags]
    largest = max((record.eps for record in found if isinstance(record.eps, float)), default=math.nan)
    weakness: dict[int, float] = {}
    for record in found:
        if record.eps == largest:
            weakness[record.sample_id] = min(weakness.get(record.sample_id, 0.0), -record.apsr)
    return weakness
