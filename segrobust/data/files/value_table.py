"""From what is written in mask files, integers or colours, to labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from segrobust.data.segmentation_dataset import Labels
from segrobust.label_space import Color
from segrobust.untrusted.data_fault import DataFault

_SMALL: Final = 2**16
_BLOCK: Final = 2**18
"""Pixels that are searched together: 6 MiB, whatever the size of the mask."""

_SHOWN: Final = 6


class ValueTable:
    """Maps every value that a mask may hold to a label, and refuses others.

    Values of 8 and 16 bits are looked up in a table; wider ones and colours are found by bisection.

    Args:
        labels: label in 0..65535 of each allowed value. Values are integers, or colours as `pack` writes them.
        meaning: what is allowed, for the message.
        are_colors: whether values are colours.
        advice: what to do about foreign values, the most frequent ones first; nothing is said when None.
    """

    def __init__(
        self,
        labels: Mapping[int, int],
        meaning: str,
        *,
        are_colors: bool = False,
        advice: Callable[[Sequence[int]], str] | None = None,
    ) -> None:
        self._meaning = meaning
        self._advice = advice
        self.are_colors = are_colors
        keys = sorted(labels)
        self._keys = np.array(keys, dtype=np.int64)
        self._labels = np.array([labels[key] for key in keys], dtype=np.int32)
        self._type: type[np.uint8 | np.uint16] = np.uint8 if max(labels.values()) <= 255 else np.uint16
        self._small = np.full(_SMALL, -1, dtype=np.int32)
        small = (self._keys >= 0) & (self._keys < _SMALL)
        self._small[self._keys[small]] = self._labels[small]

    def map(self, raw: npt.NDArray[np.integer[Any]]) -> Labels:
        """Labels of raw values, `(H, W) -> (H, W)`; uint8, or uint16 where a label is above 255.

        Raises:
            DataFault: a value that the table does not have; the message counts each.
        """
        if raw.dtype in (np.uint8, np.uint16):
            labels = self._small[raw]
        else:
            flat = raw.reshape(-1)
            labels = np.empty(flat.shape, dtype=np.int32)
            for start in range(0, len(flat), _BLOCK):
                labels[start : start + _BLOCK] = self._search(flat[start : start + _BLOCK])
            labels = labels.reshape(raw.shape)
        if (labels < 0).any():
            raise self._fault(raw[labels < 0], raw.size)
        found: Labels = labels.astype(self._type)
        return found

    def _search(self, values: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
        places = np.minimum(np.searchsorted(self._keys, values), len(self._keys) - 1)
        return np.where(self._keys[places] == values, self._labels[places], np.int32(-1))

    def _fault(self, foreign: npt.NDArray[np.integer[Any]], num_pixels: int) -> DataFault:
        values, counts = np.unique(foreign, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:_SHOWN]
        shown = [(values[place].item(), counts[place].item()) for place in most]
        listed = ", ".join(f"{self._written(value)} ({count})" for value, count in shown)
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        advice = f". {self._advice([value for value, _ in shown])}" if self._advice is not None else ""
        return DataFault(
            f"{len(foreign)} of {num_pixels} pixels hold {listed}{more}; allowed are {self._meaning}{advice}",
            kind="labels",
        )

    def _written(self, value: int) -> str:
        return str(unpack(value)) if self.are_colors else str(value)


def pack(color: Color) -> int:
    """A colour as one integer, `red << 16 | green << 8 | blue`.

    Examples:
        >>> pack((1, 2, 3))
        66051
    """
    red, green, blue = color
    return red << 16 | green << 8 | blue


def unpack(code: int) -> Color:
    """The colour of an integer of `pack`."""
    return code >> 16, code >> 8 & 255, code & 255
