"""What the images of a data set hold beyond 8-bit colours: the range of their values, and the channels to show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from segrobust.functional.display import check_bands
from segrobust.untrusted.printable import shortened
from segrobust.value_range import ValueRange

IMAGE_KEYS: Final = frozenset({"range", "clip", "bands"})
"""Of the file of classes."""


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """How image files are read.

    Attributes:
        value_range: the values that become 0 and 1. All channels of a file are then read as they are stored. None for
            pictures of 8 bits, which become RGB.
        clip: whether values outside the range are moved to its limits, and not refused.
        bands: channels that pictures show, counted from 0.

    Raises:
        ValueError: `clip` without a range.
    """

    value_range: ValueRange | None = None
    clip: bool = False
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.clip and self.value_range is None:
            raise ValueError("clip moves values to the limits of the range, and needs one: range: [lowest, highest]")

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> "ImageSettings":
        """The settings in a parsed file of classes.

        Raises:
            ValueError: a value that is not allowed.
        """
        clip, bands = data.get("clip", False), data.get("bands")
        if not isinstance(clip, bool):
            raise ValueError(f"clip must be true or false, got {shortened(clip)}")
        if bands is not None and not isinstance(bands, list):
            raise ValueError(f"bands must be a list of positions of channels, got {shortened(bands)}")
        return cls(
            value_range=ValueRange.parse(data["range"]) if "range" in data else None,
            clip=clip,
            bands=None if bands is None else check_bands(bands),
        )

    def check_channels(self, number: int) -> None:
        """Refuses images of a number of channels that the range or the bands do not fit.

        Raises:
            ValueError: they do not.
        """
        if self.value_range is not None:
            self.value_range.check_channels(number)
        if self.bands is not None:
            check_bands(self.bands, number)

    def to_dict(self) -> dict[str, object]:
        """What changes the values of images, as a JSON value; empty for pictures of 8 bits."""
        if self.value_range is None:
            return {}
        return {"range": self.value_range.to_list(), "clip": self.clip}
