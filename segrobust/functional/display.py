"""Images of any number of channels as RGB pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

_DARKEST, _BRIGHTEST = 0.02, 0.98
"""Quantiles of a channel that a stretched picture shows as black and as full brightness."""


@dataclass(frozen=True, kw_only=True)
class ChannelView:
    """Which channels of an image a picture shows, and which of their values are black and full brightness.

    One channel is shown in grey, two in false colours (the first in red, the second in cyan), three as red, green and
    blue.

    Attributes:
        channels: positions from 0; one, two or three.
        low: value of black, one for each of these channels, image units.
        high: value of full brightness.
        note: what the picture shows; empty for an image in grey or RGB as it is.
    """

    channels: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    note: str

    @classmethod
    def of(cls, image: Tensor, bands: Sequence[int] | None = None, *, stretched: bool = False) -> "ChannelView":
        """The view of an image; pictures that are compared with it have the same.

        Images of one and of three channels are shown as they are. Of others, or if `bands` are chosen, contrast is
        stretched between the quantiles 2 % and 98 % of each channel, since measurements rarely fill their range.

        Args:
            image: `(C, H, W)` in [0, 1].
            bands: positions of one to three channels; None for the first three of three or more, else all.
            stretched: whether contrast is stretched in any case.

        Raises:
            ValueError: no image of that shape, or bands that it does not have.
        """
        if image.ndim != 3 or not image.numel():
            raise ValueError(f"a picture shows an image (C, H, W), got {tuple(image.shape)}")
        number = len(image)
        channels = tuple(range(min(number, 3))) if bands is None else check_bands(bands, number)
        plain = bands is None and number in (1, 3)
        low, high = (0.0,) * len(channels), (1.0,) * len(channels)
        stretched = stretched or not plain
        if stretched:
            limits = [_contrast(image[channel]) for channel in channels]
            low, high = tuple(pair[0] for pair in limits), tuple(pair[1] for pair in limits)
        shown = f"channel{'s' if len(channels) > 1 else ''} {', '.join(map(str, channels))} of {number}"
        notes = ([] if plain else [shown]) + (["stretched"] if stretched else [])
        return cls(channels=channels, low=low, high=high, note=", ".join(notes))

    def rgb(self, image: Tensor) -> Tensor:
        """The picture, `(C, H, W) -> (3, H, W)` in [0, 1]."""
        low, high = (image.new_tensor(each)[:, None, None] for each in (self.low, self.high))
        return _three((image[list(self.channels)] - low) / (high - low)).clamp(0, 1)

    def difference(self, first: Tensor, second: Tensor, factor: float) -> Tensor:
        """`factor * (first - second)` about mid-grey, which is zero; contrast is not stretched: `(3, H, W)`."""
        channels = list(self.channels)
        return _three(0.5 + factor * (first - second)[channels]).clamp(0, 1)


def check_bands(bands: Sequence[int], number: int | None = None) -> tuple[int, ...]:
    """Bands as a tuple.

    Args:
        bands: positions from 0 of one to three channels.
        number: channels of the image; None if it is not known.

    Raises:
        ValueError: another number of bands, or one that is no position of a channel.

    Examples:
        >>> check_bands([3, 2, 1], 4)
        (3, 2, 1)
    """
    found = tuple(bands)
    if not 1 <= len(found) <= 3 or not all(type(band) is int and band >= 0 for band in found):
        raise ValueError(f"bands are one to three positions of channels, counted from 0, got {list(found)[:8]}")
    if number is not None and max(found) >= number:
        raise ValueError(
            f"bands are positions of channels, counted from 0: 0..{number - 1} for images of {number} channels, "
            f"got {list(found)}"
        )
    return found


def _three(channels: Tensor) -> Tensor:
    if len(channels) == 2:
        return channels[[0, 1, 1]]
    return channels.expand(3, -1, -1)


def _contrast(channel: Tensor) -> tuple[float, float]:
    ordered = channel.detach().flatten().float().sort().values
    low, high = (ordered[round(share * (len(ordered) - 1))].item() for share in (_DARKEST, _BRIGHTEST))
    return (low, high) if high > low else (0.0, 1.0)
