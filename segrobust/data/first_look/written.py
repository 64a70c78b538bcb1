"""What is written in some masks: values or colours, and how often."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from segrobust.data.files.masks import Values, is_colored, read_colors, read_values
from segrobust.untrusted.data_fault import DataFault

MOST_VALUES: Final = 1024
"""Different values, above which files are no masks."""

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
    """

    num_masks: int
    colors: bool
    pixels: Counter[int]
    masks: Counter[int]


def look_into(paths: Sequence[Path], advance: Callable[[], None] = lambda: None) -> Written:
    """Counts the values of masks; those of colours if any mask is in colours.

    Args:
        paths: of the masks.
        advance: called after every mask.

    Raises:
        DataFault: a file that cannot be read, or more different values than classes.
    """
    colors = any(_has_colors(path) for path in paths)
    pixels: Counter[int] = Counter()
    masks: Counter[int] = Counter()
    for path in paths:
        values, counts = np.unique(_read(path, colors), return_counts=True)
        pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        masks.update(values.tolist())
        advance()
        if len(pixels) > MOST_VALUES:
            raise DataFault(
                f"{path}: masks hold more than {MOST_VALUES} different {'colours' if colors else 'values'}, so "
                f"they are no masks of classes, or were saved with loss (JPEG) or resized smoothly",
                kind="labels",
            )
    return Written(num_masks=len(paths), colors=colors, pixels=pixels, masks=masks)


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
