"""What single samples hold, faults included."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset

from segrobust.data.datasets.paired import PairedFiles
from segrobust.data.files.image_files import is_turned
from segrobust.data.files.images import Size
from segrobust.data.segmentation_dataset import ImageArray, Labels, SegmentationDataset
from segrobust.untrusted.data_fault import DataFault
from segrobust.value_range import far_value

_DARK = 8 / 255
"""Share of the range; an image is near-black where 99 of 100 values are below."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one sample holds, as it is read and before its transform; parts that cannot be read are None.

    Attributes:
        index: position in the data set.
        size: `(H, W)`.
        counts: pixels of every class, and of void at the end: `(K + 1,)`.
        lowest: value of each channel of the image, `(C,)`, in the units of its file.
        highest: likewise.
        far: values that lie far from all others of their channel, `(value, share of the pixels)`, in these units.
        digest: of the image's pixels.
        dark: whether the image is near-black.
        turned: whether the file asks viewers to turn the image.
        faults: kind and message of what went wrong.
    """

    index: int
    size: Size | None = None
    counts: npt.NDArray[np.int64] | None = None
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()
    far: tuple[tuple[float, float], ...] = ()
    digest: str | None = None
    dark: bool = False
    turned: bool = False
    faults: tuple[tuple[str, str], ...] = ()


def observe(dataset: SegmentationDataset, indices: Sequence[int], num_workers: int = 0) -> Iterator[Observation]:
    """Reads samples and reports what they hold.

    Args:
        dataset: read before its transform.
        indices: positions.
        num_workers: loading processes; 0 reads in this one.
    """
    yield from DataLoader(_Observed(dataset, indices), batch_size=None, num_workers=num_workers)


class _Observed(Dataset[Observation]):
    """Observations in the place of samples, so that loading processes make them."""

    def __init__(self, dataset: SegmentationDataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Observation:
        return _observe(self.dataset, self.indices[position])


def _observe(dataset: SegmentationDataset, index: int) -> Observation:
    """Image and labels of one sample; where one cannot be read, the other is looked at nevertheless."""
    image: ImageArray | None = None
    labels: Labels | None = None
    turned, faults = False, []
    if isinstance(dataset, PairedFiles):
        try:
            image = dataset.load_image(index)
        except (ValueError, OSError) as error:
            faults.append(_fault(error))
        try:
            labels = dataset.load_labels(index)
        except (ValueError, OSError) as error:
            faults.append(_fault(error))
        turned = image is not None and is_turned(dataset.pairs[index].image)
    else:
        try:
            image, labels = dataset.load(index)
        except (ValueError, OSError) as error:
            faults.append((_fault(error)[0], f"{dataset.names[index]}: {error}"))
    counts = None
    if labels is not None:
        counts, foreign = _count(dataset, labels)
        if foreign:
            faults.append(("labels", f"{dataset.names[index]}: {foreign}"))
    return Observation(
        index=index,
        size=None if image is None else (image.shape[0], image.shape[1]),
        counts=counts,
        lowest=() if image is None else _in_units(dataset, image.min((0, 1))),
        highest=() if image is None else _in_units(dataset, image.max((0, 1))),
        far=() if image is None else tuple(_far(dataset, image)),
        digest=None if image is None else _digest(image),
        dark=image is not None and bool(np.percentile(image, 99) < _DARK * (255 if image.dtype == np.uint8 else 1)),
        turned=turned,
        faults=tuple(faults),
    )


def _in_units(dataset: SegmentationDataset, values: ImageArray) -> tuple[float, ...]:
    """Values of an image, one per channel, in the units of its file."""
    if dataset.value_range is None:
        return tuple(values.tolist())
    return tuple(dataset.value_range.values(values.astype(np.float64).tolist()))


def _far(dataset: SegmentationDataset, image: ImageArray) -> Iterator[tuple[float, float]]:
    """Values that may mark pixels without data; pictures of 8 bits have none."""
    if dataset.value_range is None:
        return
    far = [far_value(image[..., channel]) for channel in range(image.shape[2])]
    units = dataset.value_range.values([0.0 if value is None else value for value in far])
    for channel, value in enumerate(far):
        if value is not None:
            yield float(f"{units[channel]:.6g}"), float(np.mean(image[..., channel] == np.float32(value)))


def _fault(error: ValueError | OSError) -> tuple[str, str]:
    return (error.kind if isinstance(error, DataFault) else "unreadable"), str(error)


def _count(dataset: SegmentationDataset, labels: Labels) -> tuple[npt.NDArray[np.int64], str]:
    """ImageArray of every class and of void, and a message about other values."""
    space = dataset.label_space
    if labels.dtype not in (np.uint8, np.uint16):
        return np.zeros(space.num_classes + 1, dtype=np.int64), f"labels must be uint8 or uint16, got {labels.dtype}"
    values = np.bincount(labels.ravel(), minlength=max(space.num_classes, space.ignore_index) + 1)
    counts = np.append(values[: space.num_classes], values[space.ignore_index])
    if space.void_class is not None:
        counts[space.ignore_index] = 0
    others = [v for v in np.flatnonzero(values).tolist() if v >= space.num_classes and v != space.ignore_index]
    return counts, f"labels {', '.join(map(str, others[:8]))} are neither a class nor void" if others else ""


def _digest(image: ImageArray) -> str:
    return hashlib.blake2b(
        repr(image.shape).encode() + np.ascontiguousarray(image).tobytes(), digest_size=16
    ).hexdigest()
