"""What headers of images and masks say that their pixels, as they are read, do not show."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from segrobust.data.files.image_files import is_turned
from segrobust.untrusted.data_fault import DataDoubt, DataFault
from segrobust.untrusted.pictures import FORMATS, opened_picture

MOST_LOOKED_AT: Final = 32
"""Files, spread over a data set; `data check` reads all."""

Colors = dict[int, tuple[int, ...]]


def doubts(images: Sequence[Path], masks: Sequence[Path], *, by_index: bool) -> Iterator[DataDoubt]:
    """Looks at some files; those that cannot be read are left out.

    Args:
        images: of a data set.
        masks: of the same samples.
        by_index: whether masks with a palette are read by their indices.
    """
    turned = [path for path in _spread(images) if _is_turned(path)]
    if turned:
        yield DataDoubt(
            f"{len(turned)} of {min(len(images), MOST_LOOKED_AT)} images that were looked at ask viewers to turn them "
            f"(EXIF orientation), such as {turned[0]}. They are read as they are stored; if their masks were drawn on "
            f"turned images, save the images turned, by PIL.ImageOps.exif_transpose",
            kind="turned",
        )
    text = palettes_that_differ(_spread(masks)) if by_index else ""
    if text:
        yield DataDoubt(
            f"{text}, and masks are read by their indices: if the colours are the classes, write `values` as colours",
            kind="palettes",
        )


def palettes_that_differ(masks: Sequence[Path]) -> str:
    """An index that has two colours, in masks that both use it; empty if there is none.

    Args:
        masks: files of masks, those without a palette are left out.
    """
    first: dict[int, tuple[tuple[int, ...], Path]] = {}
    for path in masks:
        for index, color in _used_colors(path).items():
            seen, where = first.setdefault(index, (color, path))
            if seen != color:
                return f"palettes differ: {index} is {list(seen)} in {where} and {list(color)} in {path}"
    return ""


def _spread(paths: Sequence[Path]) -> list[Path]:
    number = min(len(paths), MOST_LOOKED_AT)
    return [paths[place * len(paths) // number] for place in range(number)]


def _is_turned(path: Path) -> bool:
    try:
        return is_turned(path)
    except DataFault:
        return False


def _used_colors(path: Path) -> Colors:
    """The colours of the indices that a mask with a palette uses."""
    if path.suffix.lower() not in FORMATS:
        return {}
    try:
        with opened_picture(path) as picture:
            if picture.mode != "P":
                return {}
            channels = (picture.getpalette("RGB") or []) + [0] * 768
            used = np.unique(np.asarray(picture)).tolist()
    except DataFault:
        return {}
    return {index: tuple(channels[3 * index : 3 * index + 3]) for index in used}
