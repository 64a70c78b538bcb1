"""Data sets that can be read by position, and what to write in place of those that cannot."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from segrobust.inputs.arrays import is_picture
from segrobust.inputs.sample_entries import IMAGE_KEYS, MASK_KEYS, Entry, entry_of, usual_entry


def require_dataset(dataset: object) -> None:
    """Refuses what is no data set of samples that are read by position.

    Raises:
        TypeError: the message says what was given, and the line to write.
    """
    fix = _fix(dataset)
    if fix is None and not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        fix = "give a list of samples, or an object with __len__ and __getitem__"
    if fix is not None:
        raise TypeError(
            f"the data must be samples that are read by position, such as a list of (image, mask), got "
            f"{_kind(dataset)}: {fix}"
        )


def _fix(dataset: Any) -> str | None:
    """The line to write in place of a data set; None for one that may be right."""
    if isinstance(dataset, DataLoader):
        return _fix_loader(dataset)
    if hasattr(dataset, "val_dataloader"):
        return 'call datamodule.setup("validate"), and pass datamodule.val_dataloader().dataset'
    if isinstance(dataset, str | PurePath):
        return "read the folder by a data set, such as segrobust.data.Folder(root, split)"
    if hasattr(dataset, "iloc") and hasattr(dataset, "to_dict"):
        return 'its positions are columns: pass dataset.to_dict("records")'
    if isinstance(dataset, np.ndarray) and dataset.dtype == object:
        return "pass list(dataset)"
    if isinstance(dataset, Tensor | np.ndarray):
        return "pass images and masks as list(zip(images, masks))"
    if isinstance(dataset, Mapping):
        return _fix_mapping(dataset)
    if isinstance(dataset, tuple | list) and 2 <= len(dataset) <= 3 and all(map(_is_batch, dataset[:2])):
        return "this is one batch: pass its samples as list(zip(images, masks))"
    if isinstance(dataset, tuple | list) and len(dataset) == 2 and _are_images_and_masks(dataset):
        return "these are images and masks: pass them as list(zip(images, masks))"
    if isinstance(dataset, IterableDataset) or (hasattr(dataset, "__iter__") and not hasattr(dataset, "__getitem__")):
        return "it has no positions: pass list(dataset), or list(itertools.islice(dataset, 500)) of a long one"
    if isinstance(dataset, type) or (callable(dataset) and not hasattr(dataset, "__getitem__")):
        return "pass what it makes, by calling it"
    return None


def _fix_loader(loader: DataLoader[Any]) -> str:
    if isinstance(loader.dataset, IterableDataset):
        return "its samples have no positions: pass list(loader.dataset)"
    if loader.collate_fn is not default_collate and loader.batch_size is not None:
        return (
            "pass loader.dataset; if its collate_fn changes the samples, pass them as [sample for images, masks in "
            "loader for sample in zip(images, masks)]"
        )
    return "pass loader.dataset, and batch_size= beside it"


def _fix_mapping(data: Mapping[Any, Any]) -> str | None:
    if 0 in data or not data:
        return None
    if any(_is_batch(value) or (isinstance(value, list) and not _are_samples(value)) for value in data.values()):
        images, masks = (next((key for key in keys if key in data), keys[0]) for keys in (IMAGE_KEYS, MASK_KEYS))
        return f'this is one batch: pass its samples as list(zip(batch["{images}"], batch["{masks}"]))'
    return f"choose a split, such as dataset[{next(iter(data))!r}]"


def _are_samples(values: list[object]) -> bool:
    return bool(values) and isinstance(values[0], tuple | Mapping)


def _are_images_and_masks(lists: Sequence[object]) -> bool:
    """Whether these are a list of images and one of masks, and not two samples, which are alike."""
    kinds = [{*map(_dimensions, values)} if isinstance(values, tuple | list) else set() for values in lists]
    return all(len(kind) == 1 and kind != {0} for kind in kinds) and kinds[0] != kinds[1]


def _dimensions(value: Any) -> int:
    """The dimensions of an array, the channels of a picture; 0 for anything else."""
    return len(value.getbands()) if is_picture(value) else value.ndim if _is_batch(value) else 0


def _is_batch(value: object) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _kind(value: object) -> str:
    if isinstance(value, tuple | list) and value:
        return f"a {type(value).__name__} of {len(value)} {type(value[0]).__name__}s"
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


class ChosenEntries:
    """A data set whose entries are named: its samples as `(image, mask)`, everything else as it is.

    Args:
        dataset: any data set.
        image: where the image is in a sample; None for the usual place.
        mask: where the mask is.
    """

    def __init__(self, dataset: Any, image: Entry | None, mask: Entry | None) -> None:
        self._dataset, self._image, self._mask = dataset, image, mask

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int, /) -> tuple[Any, Any]:
        sample = self._dataset[index]
        return (
            usual_entry(sample, 0) if self._image is None else entry_of(sample, self._image, "image"),
            usual_entry(sample, 1) if self._mask is None else entry_of(sample, self._mask, "mask"),
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_dataset":
            raise AttributeError(name)
        return getattr(self._dataset, name)
