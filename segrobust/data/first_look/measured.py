"""What some images hold that are no pictures of 8 bits in RGB: the range and the bands that a first look proposes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from segrobust.data.files.image_files import read_image
from segrobust.data.files.masks import mask_size
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.measurements import Values, read_measurements

_MOST_IMAGES: Final = 8
_USUAL_LIMITS: Final = (255, 1023, 4095, 10_000, 16_383, 65_535)
"""Of 8, 10, 12, 14 and 16 bits, and of reflectances."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Lines of a file of classes for images, and the guesses in them; both empty for pictures of 8 bits in RGB."""

    lines: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()


def look_at_images(pairs: Sequence[tuple[Path, Path]]) -> Measured:
    """Proposes `range` and `bands` where images have more than 8 bits or other channels than RGB.

    Args:
        pairs: images and their masks, of which a few are read.

    Raises:
        ImportError: a TIFF, and `rasterio` is not installed.
    """
    number = min(len(pairs), _MOST_IMAGES)
    chosen = [pairs[place * len(pairs) // number] for place in range(number)]
    images: list[Values] = []
    for image, mask in chosen:
        try:
            size = mask_size(mask, None)
            if _is_rgb(image, size):
                continue
            images.append(read_measurements(image, size))
        except DataFault as fault:
            return Measured(guesses=(f"images cannot be read as they are: {fault}",))
    return _proposed(images) if images else Measured()


def _is_rgb(image: Path, size: tuple[int, int]) -> bool:
    try:
        return bool(read_image(image, mask_size=size).shape[2] == 3)
    except DataFault as fault:
        if fault.kind == "range":
            return False
        raise


def _proposed(images: Sequence[Values]) -> Measured:
    channels, dtype = images[0].shape[2], images[0].dtype
    guesses = [f"images have {channels} channel{'s' if channels > 1 else ''} of {dtype}"]
    lines = []
    if any(image.dtype != np.uint8 for image in images):
        lowest = min(float(image.min()) for image in images)
        highest = max(float(image.max()) for image in images)
        seen = f"{lowest:.6g}..{highest:.6g}"
        if not math.isfinite(lowest + highest):
            return Measured(guesses=(*guesses, f"images hold {seen}, and only finite numbers are read"))
        low, high = _range(lowest, highest, is_float=dtype.kind == "f")
        lines.append(f"range: [{low}, {high}]  # of the sensor; {len(images)} images hold {seen}")
        guesses.append(f"the range of images is guessed from {seen}; correct it, for all channels or one pair for each")
    if channels > 3:
        lines.append("bands: [0, 1, 2]  # channels that pictures show as red, green and blue")
        guesses.append("pictures show the first three channels; correct `bands`")
    return Measured(lines=tuple(lines), guesses=tuple(guesses))


def _range(lowest: float, highest: float, *, is_float: bool) -> tuple[int, int]:
    """Limits around what was seen: usual ones of sensors for integers, whole numbers for others."""
    low, high = min(math.floor(lowest), 0), max(math.ceil(highest), 1)
    if is_float:
        return low, high
    return low, next((limit for limit in _USUAL_LIMITS if limit >= high), high) if low == 0 else high
