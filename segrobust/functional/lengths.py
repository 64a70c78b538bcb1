"""Lengths in image units, which configurations may write as fractions: `8/255`."""

import math
from typing import TYPE_CHECKING

from jsonargparse.typing import register_type


def read_length(written: object) -> float:
    """A number, or a fraction such as `"8/255"`: the float of Python's `8 / 255`.

    >>> read_length("8/255") == 8 / 255
    True

    Raises:
        ValueError: anything else, a fraction of 0, or what is not finite; the message names it.
    """
    try:
        if isinstance(written, str):
            numerator, slash, denominator = written.partition("/")
            length = float(numerator) / float(denominator) if slash else float(numerator)
            if math.isfinite(length):
                return length
        elif isinstance(written, int | float) and not isinstance(written, bool):
            return float(written)
    except (ValueError, ZeroDivisionError):
        pass
    raise ValueError(f"expected a number or a fraction such as 8/255, got {written!r}")


if TYPE_CHECKING:
    Length = float
else:

    class Length(float):
        """Marks a field that is a length in image units; to Python and in saved settings it is a float."""

    register_type(
        Length, serializer=float, deserializer=read_length, type_check=lambda value, _: isinstance(value, float)
    )
