"""From the values of published mask files to class indices."""

from collections.abc import Mapping

import numpy as np

from segrobust.data.segmentation_dataset import Labels
from segrobust.untrusted.data_fault import DataFault


class LabelTable:
    """Maps every value that a mask file may hold to a label, and refuses others.

    Args:
        labels: label in 0..255 for each allowed value in 0..255.
        meaning: what the values are, for the message.
    """

    def __init__(self, labels: Mapping[int, int], meaning: str) -> None:
        self._table = np.zeros(256, dtype=np.uint8)
        self._known = np.zeros(256, dtype=bool)
        self._table[[*labels]] = [*labels.values()]
        self._known[[*labels]] = True
        self._meaning = meaning

    def map(self, raw: Labels) -> Labels:
        """Labels of raw values, `(H, W) -> (H, W)`.

        Raises:
            DataFault: a value that the table does not have.
        """
        known = self._known[raw]
        if not known.all():
            values = np.unique(raw[~known]).tolist()
            shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
            raise DataFault(
                f"{np.count_nonzero(~known)} of {raw.size} pixels hold {shown}; allowed are {self._meaning}",
                kind="labels",
            )
        return self._table[raw]
