"""What the values 0 and 1 of an image are in the units of its sensor."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from segrobust.untrusted.printable import shortened

Limits: TypeAlias = tuple[float, float]

_MOST_CHANNELS = 4096

_FAR_SHARE = 0.01
"""Of the pixels that a code for missing data is at; fewer are noise or saturated."""


@dataclass(frozen=True)
class ValueRange:
    """The range of the values of a sensor, `image = (value - low) / (high - low)`, channel by channel.

    Boxes, norms and radii of attacks are shares of this range.

    Attributes:
        limits: (low, high) of all channels, or of each, in the sensor's units.

    Raises:
        ValueError: no limits, values that are not finite, or a low that is not below its high.

    Examples:
        >>> ValueRange(((0, 10000),)).in_units(8 / 255)
        '314 of 10000'
    """

    limits: tuple[Limits, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.limits) <= _MOST_CHANNELS:
            raise ValueError(f"a range has limits for all channels or for each, got {len(self.limits)}")
        for low, high in self.limits:
            if not math.isfinite(high - low) or not low < high:
                raise ValueError(f"a range is [lowest, highest] with lowest < highest, got [{low:g}, {high:g}]")

    @classmethod
    def parse(cls, value: object) -> "ValueRange":
        """A range from a parsed JSON or YAML value: `[0, 10000]` for all channels, or a list of such pairs.

        Raises:
            ValueError: another value.
        """
        if isinstance(value, list | tuple) and value:
            pairs = [value] if not isinstance(value[0], list | tuple) else value
            if all(_is_pair(pair) for pair in pairs):
                return cls(tuple((float(low), float(high)) for low, high in pairs))
        raise ValueError(
            f"a range is [lowest, highest] of all channels, or a list of such pairs, one per channel, got "
            f"{shortened(value)}"
        )

    def to_list(self) -> list[list[float]]:
        """Pairs of numbers, which `parse` reads."""
        return [list(pair) for pair in self.limits]

    def check_channels(self, number: int) -> None:
        """Refuses images of another number of channels.

        Raises:
            ValueError: there is more than one pair of limits, and not one per channel.
        """
        if len(self.limits) not in (1, number):
            raise ValueError(f"the range has limits for {len(self.limits)} channels, the image has {number}")

    def scaled(self, values: npt.NDArray[Any], *, clip: bool = False) -> npt.NDArray[np.float32]:
        """Values of a sensor as an image.

        Args:
            values: `(H, W, C)`.
            clip: whether values outside the range are moved to its limits, and not refused.

        Returns:
            `(H, W, C)` in [0, 1].

        Raises:
            ValueError: another number of channels, NaN, or values outside the range; the message names the channel.
        """
        self.check_channels(values.shape[2])
        scaled = np.empty(values.shape, dtype=np.float32)
        for channel, (low, high) in enumerate(self._each(values.shape[2])):
            plane = values[..., channel]
            foreign = ~((plane >= low) & (plane <= high)) if not clip else np.isnan(plane)
            if foreign.any():
                raise ValueError(_outside(plane, foreign, channel, low, high))
            plane = np.clip(plane.astype(np.float64), low, high)
            scaled[..., channel] = (plane - low) / (high - low)
        return scaled

    def values(self, shares: Sequence[float]) -> list[float]:
        """One image value per channel in the sensor's units."""
        return [low + share * (high - low) for share, (low, high) in zip(shares, self._each(len(shares)), strict=True)]

    def used(self, extents: Sequence[Limits]) -> float:
        """The largest share of the range that the values of a channel fill.

        Args:
            extents: lowest and highest value of each channel, in the sensor's units.
        """
        each = zip(extents, self._each(len(extents)), strict=True)
        return max((highest - lowest) / (high - low) for (lowest, highest), (low, high) in each)

    def in_units(self, length: float) -> str:
        """An l_inf length in image units as text in the sensor's units: `122 of 10000`.

        Where channels have ranges of different widths, the smallest and the largest value: `3.14 to 314 of 100 to
        10000`.
        """
        return f"{self.lengths(length)} of {' to '.join(map(_number, self.widths))}"

    def lengths(self, *lengths: float) -> str:
        """l_inf lengths in image units as text in the sensor's units: `122`, or `122-157` for two.

        Where channels have ranges of different widths, those in the smallest and in the largest: `3.14 to 314`.
        """
        return " to ".join("-".join(_length(each * width) for each in lengths) for width in self.widths)

    @property
    def widths(self) -> list[float]:
        """The width of the ranges, or the smallest and the largest."""
        widths = sorted({high - low for low, high in self.limits})
        return widths if len(widths) == 1 else [widths[0], widths[-1]]

    def __str__(self) -> str:
        pairs = [f"{_number(low)}..{_number(high)}" for low, high in self.limits]
        return pairs[0] if len(set(pairs)) == 1 else ", ".join(pairs)

    def _each(self, number: int) -> Iterator[Limits]:
        yield from self.limits * number if len(self.limits) == 1 else self.limits


def far_value(values: npt.NDArray[Any]) -> float | None:
    """The lowest or highest value if it lies far from all others, as codes for pixels without data do; None else.

    Far is more than half of the span of the others; it must be at a hundredth of the pixels at least.

    Args:
        values: of one channel, any shape. NaN is left out.

    Examples:
        >>> far_value(np.array([-9999, -9999, 120, 800, 3100]))
        -9999.0
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    for extreme, others in ((known.min(), known[known > known.min()]), (known.max(), known[known < known.max()])):
        if not others.size:
            continue
        low, high, far = float(others.min()), float(others.max()), float(extreme)
        share = 1 - others.size / known.size
        if share >= _FAR_SHARE and high > low and min(abs(far - low), abs(far - high)) > (high - low) / 2:
            return far
    return None


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(each, int | float) and not isinstance(each, bool) for each in value)
    )


def _outside(plane: npt.NDArray[Any], foreign: npt.NDArray[np.bool_], channel: int, low: float, high: float) -> str:
    first = plane[foreign][0].item()
    if math.isnan(first):
        return f"channel {channel} holds NaN at {int(foreign.sum())} of {foreign.size} pixels"
    return (
        f"channel {channel} holds {_number(first)} and other values outside the range {_number(low)}..{_number(high)}, "
        f"at {int(foreign.sum())} of {foreign.size} pixels ({_number(plane.min().item())}.."
        f"{_number(plane.max().item())} in all)"
    )


def _length(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _number(value: float) -> str:
    return f"{value:.10g}"
