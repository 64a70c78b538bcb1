"""The images of the validation: those that its loaders would give, as a data set with positions of its own."""

import hashlib
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from segrobust.callbacks.access import Entry, entry_of, evaluation_loop
from segrobust.callbacks.loader_keys import Key, joined_keys, keys_of
from segrobust.evaluation.dataset import SampleSource, describe_data, fingerprint_of, name_of


@dataclass(frozen=True)
class LoaderImages:
    """The samples of one loader.

    Attributes:
        number: of the loader among those of the validation.
        loader: makes batches of them.
        dataset: is indexed by the keys.
        keys: of all its samples, over all processes.
    """

    number: int
    loader: Any
    dataset: Any
    keys: Sequence[Key]

    @property
    def is_whole(self) -> bool:
        """Whether these are all samples of the data set, in its order."""
        return isinstance(self.dataset, Sized) and list(self.keys) == list(range(len(self.dataset)))

    def read(self, position: int) -> Any:
        """A sample as the loader reads it, before it is made a batch."""
        key = self.keys[position]
        if hasattr(self.dataset, "__getitems__"):
            return self.dataset.__getitems__([key])[0]
        return self.dataset[key]

    def batch(self, sample: Any) -> Any:
        """A batch of one sample, made as the loader makes them."""
        collate = getattr(self.loader, "collate_fn", default_collate)
        whole = getattr(self.loader, "batch_sampler", None) is None and hasattr(self.loader, "batch_sampler")
        return collate(sample if whole else [sample])


class ValidatedImages:
    """The samples of the validation as pairs of image and mask, at positions from 0.

    The positions are in the order of the data set, of several data sets one after the other, whatever the order of a
    sampler. A name, a label space and a fingerprint are passed on where there is one data set that has them.

    Args:
        parts: the samples of each loader.
        image: where the image is in a sample.
        mask: where the mask is.
    """

    def __init__(self, parts: Sequence[LoaderImages], image: Entry, mask: Entry) -> None:
        self.parts = tuple(parts)
        self.image = image
        self.mask = mask
        self._ends = list(accumulate(len(part.keys) for part in parts))
        if len(parts) == 1:
            dataset = parts[0].dataset
            for name in ("label_space", "names", "value_range", "bands", "rgb_bands"):
                if hasattr(dataset, name):
                    setattr(self, name, getattr(dataset, name))
            if hasattr(dataset, "names") and not parts[0].is_whole:
                self.names = tuple(name_of(dataset, key) for key in parts[0].keys)
            if hasattr(dataset, "fingerprint"):
                self.fingerprint = self._fingerprint

    def _fingerprint(self) -> str:
        """That of the data set, and of the keys where they are a part of it."""
        (part,) = self.parts
        whole = fingerprint_of(part.dataset)
        if part.is_whole:
            return whole
        return hashlib.sha256(repr([whole, list(part.keys)]).encode()).hexdigest()

    def describe(self) -> str:
        """The line of the data set about itself, and how many of its samples are validated."""
        lines = []
        for part in self.parts:
            line = describe_data(part.dataset) if hasattr(part.dataset, "__len__") else type(part.dataset).__name__
            lines.append(line if part.is_whole else f"{line}, of which {len(part.keys)} are validated")
        return "; ".join(lines)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, position: int, /) -> tuple[object, object]:
        part, inside = self.locate(position)
        sample = part.read(inside)
        image, mask = entry_of(sample, self.image, "image"), entry_of(sample, self.mask, "mask")
        if not isinstance(image, Tensor) or not image.is_floating_point():
            got = image.dtype if isinstance(image, Tensor) else type(image).__name__
            raise TypeError(
                f"image={self.image!r} of a sample must be a floating-point tensor (C, H, W) in [0, 1], as the network "
                f"gets it, got {got}: convert it in the data set, not in the collate function or the step"
            )
        return image, mask

    def locate(self, position: int) -> tuple[LoaderImages, int]:
        """The loader of a sample, and the position among its keys."""
        index = next(index for index, end in enumerate(self._ends) if position < end)
        return self.parts[index], position - (self._ends[index - 1] if index else 0)


def loaders_of(trainer: Trainer) -> tuple[Any, ...]:
    """The loaders of the validation or test."""
    combined = evaluation_loop(trainer)._combined_loader
    assert combined is not None
    return tuple(combined.flattened)


def validated_images(
    trainer: Trainer, image: Entry, mask: Entry, *, seed: int, data: SampleSource | None = None
) -> ValidatedImages:
    """The images that the loaders of the validation or test would give; all processes call it.

    Args:
        trainer: validates, tests, or has ended its training.
        image: where the image is in a sample.
        mask: where the mask is.
        seed: of samplers that draw at random.
        data: samples that take the place of those of the loaders, in the same form; None for those.

    Raises:
        TypeError: a loader whose samples cannot be read by position or by the keys of a sampler.
        ValueError: no sample, or a sampler that can be read once only.
    """
    loaders = loaders_of(trainer)
    if data is not None:
        parts = [LoaderImages(0, loaders[0], data, range(len(data)))]
    else:
        parts = [
            LoaderImages(number, loader, _map_style(loader), _keys(trainer, loader, limit, seed))
            for number, (loader, limit) in enumerate(zip(loaders, _limits(trainer), strict=True))
        ]
    if not any(part.keys for part in parts):
        raise ValueError("the loaders of the validation give no sample")
    return ValidatedImages(parts, image, mask)


def _limits(trainer: Trainer) -> list[float]:
    """How many batches of each loader are validated, without the limit of the sanity check."""
    loop = evaluation_loop(trainer)
    assert loop._combined_loader is not None
    if loop._combined_loader._mode == "min_size":  # the shortest ends them all
        return [min(loop._max_batches)] * len(loop._max_batches)
    return [*loop._max_batches]


def _keys(trainer: Trainer, loader: Any, limit: float, seed: int) -> list[Key]:
    """The keys of a loader over all processes."""
    keys = keys_of(loader, limit, seed)
    shares = [keys] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(shares, keys)
    return joined_keys(shares)


def _map_style(loader: Any) -> Any:
    """The data set of a loader.

    Raises:
        TypeError: it has no keys.
    """
    dataset = getattr(loader, "dataset", loader)
    by_key = hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset)
    if not (by_key and hasattr(loader, "sampler") and hasattr(loader, "batch_sampler")):
        raise TypeError(
            f"{type(dataset).__name__} cannot be read by position: robustness is evaluated on a fixed subset of the "
            "validation images. Name images that can, such as data=list(itertools.islice(dataset, 32)): samples of "
            "the same form in a data set with __len__ and __getitem__"
        )
    return dataset
