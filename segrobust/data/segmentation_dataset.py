"""What every data set of the toolkit gives: samples as dicts, a label space, stable names, a fingerprint."""

import abc
import hashlib
import json
from typing import NotRequired, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from segrobust.label_space import WIDE_IGNORE_INDEX, LabelSpace
from segrobust.untrusted.printable import check_printable
from segrobust.value_range import ValueRange

Pixels: TypeAlias = npt.NDArray[np.uint8]
ImageArray: TypeAlias = npt.NDArray[np.uint8 | np.float32]
"""An image, `(H, W, C)`: bytes, or floats in [0, 1]."""
Labels: TypeAlias = npt.NDArray[np.uint8 | np.uint16]
"""A mask; of 16 bits where a label, or void, is above 255."""


class Sample(TypedDict):
    """One item of a data set.

    `image` is float32 `(C, H, W)` in [0, 1], `mask` int64 `(H, W)`, `sample_id` the position in the data set.
    """

    image: Tensor
    mask: Tensor
    sample_id: int


class Batch(TypedDict):
    """Samples stacked: `image` `(B, C, H, W)`, `mask` `(B, H, W)`, `sample_id` `(B,)` int64.

    Padded batches also hold `perturbable_mask`, `(B, H, W)` bool: False where a pixel is padding, for attacks' argument
    of that name.
    """

    image: Tensor
    mask: Tensor
    sample_id: Tensor
    perturbable_mask: NotRequired[Tensor]


class JointTransform(abc.ABC):
    """A change of image and mask together; its `repr` names every setting, as a part of the data's fingerprint."""

    @abc.abstractmethod
    def __call__(self, image: ImageArray, mask: Labels, *, ignore_index: int) -> tuple[ImageArray, Labels]:
        """Transforms one sample.

        Args:
            image: `(H, W, C)`, uint8, or float32 in [0, 1].
            mask: labels, `(H, W)`.
            ignore_index: label of pixels that the transform makes up, such as padding.

        Returns:
            `(H', W', C)` and `(H', W')`, each of its type.
        """


class SegmentationDataset(Dataset[Sample], abc.ABC):
    """Images with label masks; a subclass says what it holds and implements `load`.

    Args:
        label_space: meaning of the mask values; its `ignore_index` must fit 16 bits.
        names: one human name per sample, unique, the same on every machine.
        transform: applied to every sample that is read; nothing when None.

    Raises:
        ValueError: no sample, a name twice or that cannot be printed, or an `ignore_index` outside 0..65535.
    """

    value_range: ValueRange | None = None
    """What the values 0 and 1 of an image are in the sensor's units; None for pictures of 8 bits."""
    bands: tuple[int, ...] | None = None
    """Channels that pictures show, counted from 0; None for the first three."""

    def __init__(self, *, label_space: LabelSpace, names: tuple[str, ...], transform: JointTransform | None) -> None:
        if not names:
            raise ValueError(f"{type(self).__name__} holds no sample")
        if len(set(names)) != len(names):
            raise ValueError(f"{type(self).__name__}: sample names must be unique")
        for index, name in enumerate(names):
            check_printable(name, f"{type(self).__name__}: the name of sample {index}")
        if not 0 <= label_space.ignore_index <= WIDE_IGNORE_INDEX:
            raise ValueError(
                f"masks have at most 16 bits: ignore_index must be in 0..{WIDE_IGNORE_INDEX}, got "
                f"{label_space.ignore_index}"
            )
        self.label_space = label_space
        self.names = names
        self.transform = transform

    @abc.abstractmethod
    def load(self, index: int) -> tuple[ImageArray, Labels]:
        """Reads one sample before the transform.

        Args:
            index: position, 0 <= index < len(self).

        Returns:
            Image `(H, W, C)`, uint8, or float32 in [0, 1], and labels `(H, W)`, void as `label_space.ignore_index`.
        """

    def load_transformed(self, index: int) -> tuple[ImageArray, Labels]:
        """Reads one sample after the transform, as `load` does before it."""
        image, mask = self.load(index)
        if self.transform is None:
            return image, mask
        void = self.label_space.ignore_index
        if void > 255:  # a mask of bytes cannot hold the void that the transform makes up
            mask = mask.astype(np.uint16)
        return self.transform(image, mask, ignore_index=void)

    @abc.abstractmethod
    def describe(self) -> str:
        """A one-line description, such as "CamVid val, 101 images, 11 classes"."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.describe()}>"

    @abc.abstractmethod
    def content(self) -> dict[str, object]:
        """What identifies the pixels besides names, label space and transform, as a JSON value for `fingerprint`."""

    @property
    def sequences(self) -> tuple[str, ...]:
        """Per sample, the recording it is from; samples of one recording are alike and are resampled together.

        Every sample is its own recording unless the data set knows better.
        """
        return self.names

    def fingerprint(self) -> str:
        """Hex SHA-256 of names, label space, transform and `content`, made without decoding an image."""
        record = {
            "class": type(self).__qualname__,
            "names": self.names,
            "label_space": self.label_space.to_dict(),
            "transform": repr(self.transform),
            **self.content(),
        }
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {self.describe()}: allowed are 0..{len(self) - 1}")
        image, mask = self.load_transformed(index)
        channels_first = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {
            "image": channels_first.float().div_(255) if image.dtype == np.uint8 else channels_first,
            "mask": torch.from_numpy(mask.astype(np.int64)),
            "sample_id": index,
        }


def collate(samples: list[Sample]) -> Batch:
    """Stacks samples of one size into a batch.

    Raises:
        ValueError: the images differ in size.
    """
    sizes = sorted({(sample["image"].shape[-2], sample["image"].shape[-1]) for sample in samples})
    if len(sizes) > 1:
        shown = ", ".join(f"{height}x{width}" for height, width in sizes[:4])
        raise ValueError(
            f"a batch of {len(samples)} holds images of different sizes ({shown}); give the data set size=(H, W) "
            f"or a transform that crops, use a batch size of 1, or pad training batches by pad=True of the data module"
        )
    batch: Batch = default_collate(samples)
    return batch


def pad_collate(samples: list[Sample], *, ignore_index: int) -> Batch:
    """Stacks samples of any size into a batch as high as the highest and as wide as the widest.

    Images are padded below and on the right: grey pixels, labelled void, and False in `perturbable_mask`.

    Args:
        samples: at least one.
        ignore_index: label of void.
    """
    height = max(sample["mask"].shape[0] for sample in samples)
    width = max(sample["mask"].shape[1] for sample in samples)
    images = torch.full((len(samples), len(samples[0]["image"]), height, width), 0.5)
    masks = torch.full((len(samples), height, width), ignore_index)
    perturbable_mask = torch.zeros(masks.shape, dtype=torch.bool)
    for row, sample in enumerate(samples):
        rows, columns = sample["mask"].shape
        images[row, :, :rows, :columns] = sample["image"]
        masks[row, :rows, :columns] = sample["mask"]
        perturbable_mask[row, :rows, :columns] = True
    ids = torch.tensor([sample["sample_id"] for sample in samples])
    return {"image": images, "mask": masks, "sample_id": ids, "perturbable_mask": perturbable_mask}
