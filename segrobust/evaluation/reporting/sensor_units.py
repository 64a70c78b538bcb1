"""Radii and norms of l_inf in the units of the sensor, where the data set states the range of its values."""

import math
from collections.abc import Callable, Iterator

from segrobust.evaluation.numbers.summary import Summary
from segrobust.evaluation.reporting.format import in_units_of, norm_text, radius_text
from segrobust.evaluation.reporting.score_lines import norm_lines
from segrobust.functional.norms import NormName
from segrobust.value_range import ValueRange


def with_units(
    write: Callable[[float, NormName], str], length: float, norm_name: NormName, value_range: ValueRange | None
) -> str:
    """A length as text, with the same length in the sensor's units: `3.1/255 of the range (= 122 of 10000)`.

    Args:
        write: `norm_text` or `radius_text`.
        length: image units.
        norm_name: only l_inf has units of the sensor in each pixel; other norms stay as they are.
        value_range: None for pictures of 8 bits, which stay as they are.
    """
    units = in_units(length, norm_name, value_range)
    with in_units_of(None):
        text = write(length, norm_name)
    return f"{text} of the range (= {units})" if units else text


def in_units(length: float, norm_name: NormName, value_range: ValueRange | None) -> str:
    """A length in the sensor's units alone: `122 of 10000`; empty where it has none, see `with_units`."""
    if value_range is None or norm_name != "linf" or not math.isfinite(length):
        return ""
    return value_range.in_units(length)


def sensor_lines(summary: Summary, value_range: ValueRange | None) -> Iterator[str]:
    """Lines for a report: the range, the radii and the minimal norms of l_inf; none without a range."""
    if value_range is None:
        return
    radii = {scores.eps for entry in summary.fixed_budget if entry.norm_name == "linf" for scores in entry.scores}
    entries = norm_lines(summary).get("linf", ())
    radii |= {eps for entry in entries for eps in entry.eps}
    yield f"range of the values: {value_range}"
    for eps in sorted(radii):
        yield f"eps {with_units(radius_text, eps, 'linf', value_range)}"
    for entry in entries:
        median = with_units(norm_text, entry["median"], "linf", value_range)
        yield f"median minimal norm of {entry.label}: {median}"
