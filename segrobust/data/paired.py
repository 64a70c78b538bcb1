"""Data sets that are files: images in one folder, masks of the same names in another."""

from __future__ import annotations

import abc

import torch

from segrobust.data.base import JointTransform, Pixels, SegmentationDataset
from segrobust.data.images import Pair, Size, check_size, read_image, read_mask
from segrobust.label_space import LabelSpace


class PairedFiles(SegmentationDataset, abc.ABC):
    """Image and mask files, read on demand and checked against the label space.

    Args:
        label_space: Meaning of the mask values.
        pairs: The files, from `pair_files`.
        size: `(H, W)` that every sample is resized to; native sizes when None.
        transform: Applied to every sample that is read; nothing when None.

    Raises:
        ValueError: `size` is not two positive integers, or there is no pair.
    """

    def __init__(
        self,
        *,
        label_space: LabelSpace,
        pairs: tuple[Pair, ...],
        size: Size | None,
        transform: JointTransform | None,
    ) -> None:
        check_size(size)
        super().__init__(label_space=label_space, names=tuple(pair.name for pair in pairs), transform=transform)
        self.pairs = pairs
        self.size = None if size is None else (size[0], size[1])

    def map_labels(self, raw: Pixels) -> Pixels:
        """Turn the values of a mask file, `(H, W)`, into labels; the same values unless a data set maps them."""
        return raw

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Read one sample before the transform.

        Raises:
            ValueError: A file cannot be decoded, or its mask holds values outside the label space.
        """
        pair = self.pairs[index]
        mask = self.map_labels(read_mask(pair.mask, self.size))
        try:
            self.label_space.check(torch.from_numpy(mask))
        except ValueError as error:
            raise ValueError(f"{pair.mask}: {error}") from error
        return read_image(pair.image, self.size), mask

    def content(self) -> dict[str, object]:
        """The native size of every pair, from the headers, and the size asked for."""
        return {"native_sizes": [pair.size for pair in self.pairs], "size": self.size}
