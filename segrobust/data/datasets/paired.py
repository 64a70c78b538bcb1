"""Data sets that are files: images, and masks of the same names."""

import abc
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from segrobust.data.files.image_files import read_image
from segrobust.data.files.image_settings import ImageSettings
from segrobust.data.files.images import Size, check_size, resize_labels
from segrobust.data.files.listing import Pair
from segrobust.data.files.masks import Values, read_values
from segrobust.data.segmentation_dataset import ImageArray, JointTransform, Labels, SegmentationDataset
from segrobust.label_space import LabelSpace
from segrobust.untrusted.data_fault import DataFault

_PICTURES = "3 channels of uint8, range 0..255"


class PairedFiles(SegmentationDataset, abc.ABC):
    """Image and mask files, read on demand and checked against the label space.

    Args:
        split: name of the split.
        label_space: meaning of the mask values.
        pairs: the files, from `pair_files` or `checked_pairs`.
        size: `(H, W)` that every sample is resized to; native sizes when None.
        transform: applied to every sample that is read; nothing when None.
        settings: how images are read; pictures of 8 bits when None.

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
        settings: ImageSettings | None = None,
    ) -> None:
        check_size(size)
        super().__init__(label_space=label_space, names=tuple(pair.name for pair in pairs), transform=transform)
        self.split = split
        self.pairs = pairs
        self.size = None if size is None else (size[0], size[1])
        self.settings = settings or ImageSettings()
        self.value_range, self.bands = self.settings.value_range, self.settings.bands

    def map_labels(self, raw: Values) -> Values:
        """Turns the values of a mask file, `(H, W)`, into labels; the same values unless a data set maps them."""
        return raw

    def read_labels(self, path: Path) -> Values:
        """Labels of a mask file at its own size, `(H, W)`; of integers unless a data set reads others."""
        return self.map_labels(read_values(path))

    def load(self, index: int) -> tuple[ImageArray, Labels]:
        """Reads one sample before the transform.

        Raises:
            DataFault: a file cannot be decoded, or its mask holds values outside the label space.
        """
        labels = self.load_labels(index)
        return self.load_image(index), labels

    def load_image(self, index: int) -> ImageArray:
        """The image alone, `(H, W, C)`.

        Raises:
            DataFault: the file cannot be decoded.
        """
        pair = self.pairs[index]
        return read_image(pair.image, self.size, self.settings, pair.size)

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
        """Data set, split, number of images and classes; channels and range, unless it holds pictures of 8 bits."""
        line = f"{self.title} {self.split}, {len(self)} images, {self.label_space.num_classes} classes"
        stored = self.describe_values()
        return line if stored == _PICTURES else f"{line}, {stored}"

    def describe_values(self) -> str:
        """What the image files store: "4 channels of uint16, range 0..10000"."""
        channels, dtypes = self.pairs[0].channels, sorted({pair.dtype for pair in self.pairs})
        line = f"{channels} channel{'s' if channels > 1 else ''} of {' and '.join(dtypes)}"
        return f"{line}, range {self.value_range or '0..255'}"

    @property
    def sequences(self) -> tuple[str, ...]:
        """Per image the video or city that it is from, where its name begins with it; else its own name."""
        return tuple(name.split("_", 1)[0] for name in self.names) if self.names_begin_with_sequence else self.names

    def content(self) -> dict[str, object]:
        """The native size of every pair, from the headers, the size asked for, and the range of values."""
        sizes = [pair.size for pair in self.pairs]
        return {"native_sizes": sizes, "size": self.size, **self.settings.to_dict()}
