"""What some images hold that are no pictures of 8 bits in RGB: the range and the bands that a first look proposes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from segrobust.data.files.image_files import read_image
from segrobust.data.files.masks import mask_size
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.measurements import Values, read_measurements
from segrobust.untrusted.pictures import FORMATS, opened_picture
from segrobust.value_range import far_value

_MOST_IMAGES: Final = 8
_USUAL_LIMITS: Final = (255, 1023, 4095, 10_000, 16_383, 65_535)
"""Of 8, 10, 12, 14 and 16 bits, and of reflectances."""

_MOST_RATIO: Final = 20
"""Of the largest values of two channels of one unit; bands of one reflectance differ by less."""


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
    grey = 0
    for image, mask in chosen:
        try:
            size = mask_size(mask, None)
            if _is_rgb(image, size):
                grey += _is_grey(image)
                continue
            images.append(read_measurements(image, size))
        except DataFault as fault:
            return Measured(guesses=(f"images cannot be read as they are: {fault}",))
    if not images and grey == number:
        return Measured(
            guesses=("images are grey and become RGB; for a network of one channel write `range: [0, 255]`",)
        )
    return _proposed(images) if images else Measured()


def _is_grey(image: Path) -> bool:
    """Whether a picture has one channel without a palette, by its header."""
    if image.suffix.lower() not in FORMATS:
        return False
    with opened_picture(image) as picture:
        return picture.mode == "L"


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
        found, guessed = _ranges([image for image in images if image.shape[2] == channels])
        lines += found
        guesses += guessed
    if channels > 3:
        lines.append("bands: [0, 1, 2]  # channels that pictures show as red, green and blue")
        guesses.append("pictures show the first three channels; correct `bands`")
    return Measured(lines=tuple(lines), guesses=tuple(guesses))


def _ranges(images: Sequence[Values]) -> tuple[list[str], list[str]]:
    """The line of the range, one for all channels or one for each, and what was guessed."""
    planes = [
        np.concatenate([image[..., channel].ravel() for image in images]) for channel in range(images[0].shape[2])
    ]
    far = [far_value(plane) for plane in planes]
    kept = [
        _finite(plane if value is None else plane[plane != value]) for plane, value in zip(planes, far, strict=True)
    ]
    guesses = [*_missing(planes, far)]
    if not all(plane.size for plane in kept):
        return [], [*guesses, "a channel holds no finite number; write the range yourself"]
    extents = [(float(plane.min()), float(plane.max())) for plane in kept]
    is_float = images[0].dtype.kind == "f"
    joint = _range(min(low for low, _ in extents), max(high for _, high in extents), is_float=is_float)
    seen = f"{min(low for low, _ in extents):.6g}..{max(high for _, high in extents):.6g}"
    line = f"range: [{joint[0]}, {joint[1]}]  # of the sensor; {len(images)} images hold {seen}"
    guess = f"the range of images is guessed from {seen}; correct it, for all channels or one pair for each"
    if _differ(extents):
        limits = [_range(low, high, is_float=is_float) for low, high in extents]
        line = f"range: [{', '.join(f'[{low}, {high}]' for low, high in limits)}]  # of each channel"
        listed = "; ".join(f"{low:.4g}..{high:.4g}" for low, high in extents[:16])
        guess = (
            f"the channels hold {listed}: these differ by more than {_MOST_RATIO} times, so each has its own range, "
            f"which is guessed; if they have one unit, write one range for all"
        )
    clip = (
        ["clip: true  # moves values that mark missing data to the limits"] if any(v is not None for v in far) else []
    )
    return [line, *clip], [*guesses, guess]


def _missing(planes: Sequence[Values], far: Sequence[float | None]) -> Iterator[str]:
    """What seems to mark pixels without data, and what to do about it."""
    for value in dict.fromkeys(value for value in far if value is not None):
        share = np.mean([np.mean(plane == value) for plane, own in zip(planes, far, strict=True) if own == value])
        yield (
            f"{value:.6g}, at {share:.1%} of the pixels, lies far from all other values: it may mark missing data. "
            f"The range leaves it out and `clip` moves it to a limit; label these pixels void in the masks. If it is "
            f"a measurement, correct the range and remove `clip`"
        )
    share = np.mean([np.mean(np.isnan(plane)) for plane in planes])
    if share:
        yield (
            f"NaN, at {share:.1%} of the pixels, is not read: save the images with a number of the range there, and "
            f"label these pixels void in the masks"
        )


def _finite(plane: Values) -> Values:
    return plane[np.isfinite(plane)]


def _differ(extents: Sequence[tuple[float, float]]) -> bool:
    """Whether channels are so different that they have no unit in common."""
    sizes = [max(abs(low), abs(high)) for low, high in extents]
    return max(sizes) > _MOST_RATIO * min(sizes)


def _range(lowest: float, highest: float, *, is_float: bool) -> tuple[int, int]:
    """Limits around what was seen: usual ones of sensors for integers, whole numbers for others."""
    low, high = min(math.floor(lowest), 0), max(math.ceil(highest), 1)
    if is_float:
        return low, high
    return low, next((limit for limit in _USUAL_LIMITS if limit >= high), high) if low == 0 else high
