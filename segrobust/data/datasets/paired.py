"""Data sets that are files: images, and masks of the same names."""

import abc
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from segrobust.data.files.images import Size, check_size, read_image, resize_labels
from segrobust.data.files.listing import Pair
from segrobust.data.files.masks import Values, read_values
from segrobust.data.segmentation_dataset import JointTransform, Labels, Pixels, SegmentationDataset
from segrobust.label_space import LabelSpace
from segrobust.untrusted.data_fault import DataFault


class PairedFiles(SegmentationDataset, abc.ABC):
    """Image and mask files, read on demand and checked against the label space.

    Args:
        split: name of the split.
        label_space: meaning of the mask values.
        pairs: the files, from `pair_files` or `checked_pairs`.
        size: `(H, W)` that every sample is resized to; native sizes when None.
        transform: applied to every sample that is read; nothing when None.

    Raises:
        ValueError: `size` is not two positive integers, or there is no pair.
    """

    title: str
    """Name of the data set in descriptions."""
    names_begin_with_sequence: ClassVar[bool] = False
    """Whether the part of a name before its first `_` is its video or city."""

    def __init__(
        self,
        *,
        split: str,
        label_space: LabelSpace,
        pairs: tuple[Pair, ...],
        size: Size | None,
        transform: JointTransform | None,
    ) -> None:
        check_size(size)
        super().__init__(label_space=label_space, names=tuple(pair.name for pair in pairs), transform=transform)
        self.split = split
        self.pairs = pairs
        self.size = None if size is None else (size[0], size[1])

    def map_labels(self, raw: Values) -> Values:
        """Turns the values of a mask file, `(H, W)`, into labels; the same values unless a data set maps them."""
        return raw

    def read_labels(self, path: Path) -> Values:
        """Labels of a mask file at its own size, `(H, W)`; of integers unless a data set reads others."""
        return self.map_labels(read_values(path))

    def load(self, index: int) -> tuple[Pixels, Labels]:
        """Reads one sample before the transform.

        Raises:
            DataFault: a file cannot be decoded, or its mask holds values outside the label space.
        """
        labels = self.load_labels(index)
        return self.load_image(index), labels

    def load_image(self, index: int) -> Pixels:
        """The image alone, `(H, W, 3)`.

        Raises:
            DataFault: the file cannot be decoded.
        """
        return read_image(self.pairs[index].image, self.size)

    def load_labels(self, index: int) -> Labels:
        """The labels alone, `(H, W)`.

        Raises:
            DataFault: the file cannot be decoded, is of another size, or holds values outside the label space.
        """
        pair = self.pairs[index]
        try:
            labels = self.read_labels(pair.mask)
            self.label_space.check(torch.from_numpy(labels))
        except ValueError as error:
            named = str(error) if str(pair.mask) in str(error) else f"{pair.mask}: {error}"
            raise DataFault(named, kind=error.kind if isinstance(error, DataFault) else "labels") from error
        if labels.shape != pair.size:
            raise DataFault(
                f"{pair.mask} holds labels of {labels.shape}, its image is of {pair.size} (height, width)", kind="size"
            )
        stored: Labels = labels.astype(np.uint8 if labels.dtype == np.uint8 else np.uint16, copy=False)
        return resize_labels(stored, self.size)

    def describe(self) -> str:
        """Data set, split, number of images and classes."""
        return f"{self.title} {self.split}, {len(self)} images, {self.label_space.num_classes} classes"

    @property
    def sequences(self) -> tuple[str, ...]:
        """Per image the video or city that it is from, where its name begins with it; else its own name."""
        return tuple(name.split("_", 1)[0] for name in self.names) if self.names_begin_with_sequence else self.names

    def content(self) -> dict[str, object]:
        """The native size of every pair, from the headers, and the size asked for."""
        return {"native_sizes": [pair.size for pair in self.pairs], "size": self.size}
