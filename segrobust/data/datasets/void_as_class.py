"""Void as a class: some networks were trained, and are measured, on pixels that have no label.

Source: the released code of Croce, Singh and Hein, "Towards Reliable Evaluation and Fast Training of Robust Semantic
Segmentation Models", ECCV 2024: what has no label is background in Pascal VOC, and class 0 of 151 in ADE20K.
"""

import numpy as np

from segrobust.data.files.mask_values import void_label
from segrobust.data.segmentation_dataset import ImageArray, Labels, SegmentationDataset
from segrobust.label_space import LabelSpace

_COLOR = (0, 0, 0)


class VoidAsClass(SegmentationDataset):
    """Another data set whose void pixels belong to a class; none is left out.

    A class of that name takes them where there is one. Otherwise a new class comes before the others, whose indices
    grow by one.

    Args:
        dataset: the other data set, with its transform.
        name: of the class.

    Raises:
        ValueError: the data set is at fault.
    """

    def __init__(self, dataset: SegmentationDataset, name: str = "background") -> None:
        space = dataset.label_space
        self._is_new = name not in space.names
        names = (name, *space.names) if self._is_new else space.names
        palette = (_COLOR, *space.palette) if self._is_new else space.palette
        void = space.ignore_index if space.void_class is None else void_label(len(names))
        space = LabelSpace(names=names, palette=palette, ignore_index=void)
        super().__init__(label_space=space, names=dataset.names, transform=None)
        self.dataset = dataset
        self.value_range, self.bands = dataset.value_range, dataset.bands
        self.class_name = name

    @property
    def sequences(self) -> tuple[str, ...]:
        """Those of the other data set."""
        return self.dataset.sequences

    def load(self, index: int) -> tuple[ImageArray, Labels]:
        """Reads one sample, transformed as in the other data set: `(H, W, 3), (H, W)`."""
        image, mask = self.dataset.load_transformed(index)
        is_void = mask == self.dataset.label_space.ignore_index
        labels = mask + np.uint8(self._is_new)
        labels[is_void] = self.label_space.names.index(self.class_name)
        return image, labels

    def describe(self) -> str:
        """One line such as "ADE20K val, 2000 images, 150 classes, void as background"."""
        return f"{self.dataset.describe()}, void as {self.class_name}"

    def content(self) -> dict[str, object]:
        """The fingerprint of the other data set."""
        return {"dataset": self.dataset.fingerprint()}
