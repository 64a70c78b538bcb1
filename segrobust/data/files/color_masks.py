"""Masks whose classes are colours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segrobust.data.files.images import read_colors
from segrobust.data.segmentation_dataset import Labels
from segrobust.label_space import Color
from segrobust.untrusted.data_fault import DataFault


class ColorTable:
    """From colours to labels.

    Args:
        labels: label of every colour that may occur, void included; each label in 0..65535.
    """

    def __init__(self, labels: Mapping[Color, int]) -> None:
        codes = sorted((_code(np.array(color)).item(), label) for color, label in labels.items())
        self._codes = np.array([code for code, _ in codes], dtype=np.int32)
        self._labels: Labels = np.array(
            [label for _, label in codes], dtype=np.uint8 if max(labels.values()) <= 255 else np.uint16
        )

    def read(self, path: Path) -> Labels:
        """Labels of an RGB mask, `(H, W)`.

        Raises:
            DataFault: the file cannot be read, or holds a colour that is not in the table.
        """
        codes = _code(read_colors(path))
        places = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        foreign = codes[self._codes[places] != codes]
        if len(foreign):
            values, counts = np.unique(foreign, return_counts=True)
            order = np.argsort(-counts)[:4]
            shown = ", ".join(f"({code >> 16}, {code >> 8 & 255}, {code & 255})" for code in values[order].tolist())
            more = f" and {len(values) - 4} more" if len(values) > 4 else ""
            raise DataFault(
                f"{path}: {len(foreign)} of {codes.size} pixels have colours of no class: {shown}{more}. A mask in "
                f"colours is kept without loss (PNG, not JPEG) and resized to the nearest pixel",
                kind="labels",
            )
        return self._labels[places]


def _code(rgb: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
    """Colours `(..., 3)` as integers `(...)`."""
    channels = rgb.astype(np.int32)
    code: npt.NDArray[np.int32] = (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]
    return code
