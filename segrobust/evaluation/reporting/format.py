"""Numbers as people read them."""

import math

from segrobust.evaluation.numbers.summary import MinimalNormSummary
from segrobust.functional.norms import NormName


def radius_text(eps: float, norm_name: NormName) -> str:
    """A radius as people write it: `8/255` in l_inf, a plain number elsewhere."""
    return f"{eps * 255:.4g}/255" if norm_name == "linf" else f"{eps:.4g}"


def norm_text(value: float, norm_name: NormName) -> str:
    """A norm for people: `1.18/255` in l_inf; "not reached" for inf."""
    if math.isinf(value):
        return "not reached"
    return f"{value * 255:.2f}/255" if norm_name == "linf" else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in percent with one decimal, without the sign; "-" for nan."""
    return "-" if math.isnan(share) else f"{share * 100:.1f}"


def median_and_quartiles(entry: MinimalNormSummary) -> str:
    """`1.18 (0.92-1.51)/255`; quartiles that were not reached are open."""
    unit, scale = ("/255", 255) if entry.norm_name == "linf" else ("", 1)
    values = (entry.norms.median, entry.norms.lower_quartile, entry.norms.upper_quartile)
    if math.isinf(values[1]):
        return "not reached"
    median, lower, upper = ("?" if math.isinf(value) else f"{value * scale:.2f}" for value in values)
    return f"{median} ({lower}-{upper}){unit}"
