"""What is written in some masks: values or colours, and how often."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from segrobust.data.files.doubts import palettes_that_differ
from segrobust.data.files.masks import LOSSY_SUFFIXES, Values, is_colored, read_colors, read_values
from segrobust.untrusted.data_fault import DataFault

MOST_VALUES: Final = 1024
"""Different values, above which files are no masks."""

_MANY_SCATTERED: Final = 8
_FEW: Final = 64
"""Different values of a mask with few pixels; photographs have nearly as many as pixels."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What some masks hold.

    Attributes:
        num_masks: masks that were read.
        colors: whether values are colours, as `value_table.pack` writes them.
        pixels: number of pixels of each value.
        masks: number of masks with each value.
        alone: pixels of each value whose neighbours on the left and right have others.
        palettes: an index that has two colours in two palettes; empty if none has.
    """

    num_masks: int
    colors: bool
    pixels: Counter[int]
    masks: Counter[int]
    alone: Counter[int]
    palettes: str

    @property
    def is_noisy(self) -> bool:
        """Whether most of many values are at single pixels, as loss and smooth resizing leave them at borders."""
        scattered = [value for value, number in self.pixels.items() if self.alone[value] > number / 2]
        return len(scattered) >= _MANY_SCATTERED and 2 * len(scattered) > len(self.pixels)


def look_into(paths: Sequence[Path], advance: Callable[[], None] = lambda: None) -> Written:
    """Counts the values of masks; those of colours if any mask is in colours.

    Args:
        paths: of the masks.
        advance: called after every mask.

    Raises:
        DataFault: a file that cannot be read, or more different values than classes.
    """
    differ = palettes_that_differ(paths)
    colors = bool(differ) or any(_has_colors(path) for path in paths)
    pixels: Counter[int] = Counter()
    masks: Counter[int] = Counter()
    alone: Counter[int] = Counter()
    for path in paths:
        found = _read(path, colors)
        values, counts = np.unique(found, return_counts=True)
        alone.update(_alone(found))
        pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        masks.update(values.tolist())
        advance()
        if len(pixels) > MOST_VALUES:
            raise DataFault(
                f"{path}: masks hold more than {MOST_VALUES} different {'colours' if colors else 'values'}, so "
                f"they are no masks of classes, or were saved with loss (JPEG) or resized smoothly",
                kind="labels",
            )
    return Written(num_masks=len(paths), colors=colors, pixels=pixels, masks=masks, alone=alone, palettes=differ)


def _alone(values: Values) -> dict[int, int]:
    """Number of pixels of each value that differ from both neighbours in their row."""
    differs = np.ones((values.shape[0], values.shape[1] + 1), dtype=bool)
    differs[:, 1:-1] = values[:, 1:] != values[:, :-1]
    found, numbers = np.unique(values[differs[:, 1:] & differs[:, :-1]], return_counts=True)
    return dict(zip(found.tolist(), numbers.tolist(), strict=True))


def why_no_mask(path: Path) -> str:
    """Why a file cannot be a mask of classes; empty if it can."""
    if path.suffix.lower() in LOSSY_SUFFIXES:
        return f"{path} is of a format that may change values; write masks as PNG, from where they were made"
    try:
        number = len(np.unique(_read(path, _has_colors(path))))
    except DataFault as fault:
        return str(fault)
    if has_few_values(path):
        return ""
    return (
        f"{path} holds {number} different values, too many for classes: it may be a picture, hold instances beside "
        f"classes (as the files of ADE20K with all objects do), or have been saved with loss"
    )


def looks_like_masks(paths: Sequence[Path]) -> bool:
    """Whether the first and the last of some files have few different values, as masks have."""
    return bool(paths) and has_few_values(paths[0]) and has_few_values(paths[-1])


@lru_cache(maxsize=1024)
def has_few_values(path: Path) -> bool:
    """Whether a picture or an array can be read as a mask, and has few different values."""
    try:
        found = _read(path, _has_colors(path))
    except DataFault:
        return False
    return len(np.unique(found)) <= max(_FEW, min(MOST_VALUES, found.size // 64))


def _has_colors(path: Path) -> bool:
    """Whether a file has several channels that differ."""
    if not is_colored(path):
        return False
    try:
        read_values(path)
    except DataFault:
        return True
    return False


def _read(path: Path, colors: bool) -> Values:
    return read_colors(path) if colors else read_values(path)
