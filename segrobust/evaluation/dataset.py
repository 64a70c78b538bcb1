"""The interface of a data set for the evaluation: images, masks, names and a fingerprint."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from segrobust.attacks.targets import TargetMaps, Targets
from segrobust.evaluation.signs import give_sign
from segrobust.inputs import as_class_indices, as_image, require_single, split_sample
from segrobust.label_space import LabelSpace
from segrobust.untrusted.printable import check_printable
from segrobust.value_range import ValueRange


class SampleSource(Protocol):
    """A map-style data set.

    Items are mappings with `image`, `(C, H, W)` in [0, 1], and `mask`, `(H, W)` integers; or tuples of the two.
    `segrobust.inputs` lists the other forms that are taken.

    `label_space`, `names`, `sequences`, `value_range`, `bands`, `fingerprint()` and `describe()` are used if the data
    set has them, as in `segrobust.data`.
    """

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int, /) -> object:
        """The sample at a position."""
        ...


@dataclass(frozen=True)
class LoadedSample:
    """One sample: `image` `(C, H, W)` floating point in [0, 1], `mask` `(H, W)` int64, at the position `sample_id`."""

    sample_id: int
    image: Tensor
    mask: Tensor

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 of the image and the mask: of dtype, shape and all values.

        Of the hashes of the standard library, SHA-256 is among the fastest where the processor has instructions for it.
        """
        digest = hashlib.sha256()
        for tensor in (self.image, self.mask):
            digest.update(json.dumps([str(tensor.dtype), list(tensor.shape)]).encode())
            content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(content.numpy().data)
        return digest.hexdigest()[:16]


def load_sample(dataset: SampleSource, index: int) -> LoadedSample:
    """Reads one sample; `segrobust.inputs` lists the forms that are taken.

    Raises:
        TypeError: an item of another form.
        ValueError: image and mask do not have the shapes (C, H, W) and (H, W), or do not fit each other.
    """
    image, mask = split_sample(dataset[index], f"sample {index}: samples")
    require_single(image, f"sample {index}")
    labels = as_class_indices(mask, f"sample {index}: the mask", 2)
    give_sign()
    return LoadedSample(index, as_image(image, tuple(labels.shape), f"sample {index}: the image"), labels)


def first_readable(dataset: SampleSource, ids: Iterable[int]) -> LoadedSample:
    """The first of these samples that can be read, for callers that need any sample.

    Raises:
        ValueError: none of them can be read; the message is that of the last one.
        TypeError: an item of another form.
    """
    fault: Exception = ValueError("the data set holds no sample")
    for index in ids:
        try:
            return load_sample(dataset, index)
        except (OSError, ValueError) as error:
            fault = error
    raise ValueError(f"no image can be read; the error of the last one: {fault}") from fault


def label_space_of(dataset: SampleSource) -> LabelSpace | None:
    """The data set's label space; None if it has none."""
    space = getattr(dataset, "label_space", None)
    return space if isinstance(space, LabelSpace) else None


def value_range_of(dataset: SampleSource) -> ValueRange | None:
    """What the images' values 0 and 1 are in the sensor's units; None if the data set says nothing.

    Raises:
        ValueError: its `value_range` is neither a `ValueRange` nor limits.
    """
    found = getattr(dataset, "value_range", None)
    return found if found is None or isinstance(found, ValueRange) else ValueRange.parse(found)


def bands_of(dataset: SampleSource) -> Sequence[int] | None:
    """The channels that the data set wants shown in pictures; None if it does not say.

    Data sets of torchgeo give names: `bands` of all channels, and `rgb_bands` of those to show.
    """
    found = getattr(dataset, "bands", None)
    if not isinstance(found, list | tuple):
        return None
    if not any(isinstance(band, str) for band in found):
        return found
    shown = getattr(dataset, "rgb_bands", ())
    return tuple(found.index(band) for band in shown) if shown and {*shown} <= {*found} else None


def name_of(dataset: SampleSource, index: int) -> str:
    """The data set's name of a sample, else its position."""
    names = getattr(dataset, "names", None)
    return str(index) if names is None else str(names[index])


def check_names(dataset: SampleSource, ids: Iterable[int]) -> None:
    """Refuses names of samples and recordings that cannot be printed.

    Raises:
        ValueError: one is blank, of more than 255 characters, or holds characters that cannot be printed.
    """
    given = {what: getattr(dataset, what, None) for what in ("names", "sequences")}
    for index in ids:
        for what, texts in given.items():
            if texts is not None:
                check_printable(str(texts[index]), f"{what}[{index}] of the data set")


def sequence_of(dataset: SampleSource, index: int) -> str:
    """The recording of a sample if the data set knows it, else the sample's name."""
    sequences = getattr(dataset, "sequences", None)
    return name_of(dataset, index) if sequences is None else str(sequences[index])


def target_maps(
    targets: Targets,
    network: nn.Module,
    dataset: SampleSource,
    sample_ids: Iterable[int],
    images: Tensor,
    masks: Tensor,
    ignore_index: int,
) -> TargetMaps:
    """The target classes of the pixels of some samples, by one forward pass over the clean images.

    Args:
        targets: the rule that gives the targets.
        network: maps images to logits.
        dataset: of the samples; gives names of samples and classes.
        sample_ids: their positions.
        images: `(B, C, H, W)` on the network's device.
        masks: `(B, H, W)` int64.
        ignore_index: label of void pixels.

    Raises:
        ValueError: targets that do not fit the data.
    """
    names = [name_of(dataset, sample_id) for sample_id in sample_ids]
    space = label_space_of(dataset)
    return targets(network, images, masks, names=names, ignore_index=ignore_index, label_space=space)


def describe_data(dataset: SampleSource) -> str:
    """The data set's line about itself, else its class and size."""
    describe = getattr(dataset, "describe", None)
    return str(describe()) if callable(describe) else f"{type(dataset).__name__}, {len(dataset)} images"


def fingerprint_of(dataset: SampleSource) -> str:
    """The data set's fingerprint in hex; if it has none, a digest of its class, its size and its first sample.

    It is a label for reports: whether two runs measured the same images and masks is seen by `LoadedSample.digest`.
    """
    fingerprint = getattr(dataset, "fingerprint", None)
    if callable(fingerprint):
        return str(fingerprint())
    content = [type(dataset).__qualname__, len(dataset), first_readable(dataset, range(len(dataset))).digest]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
