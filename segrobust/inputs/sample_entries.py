"""Image and mask of a sample, whatever it is called there."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from segrobust.inputs.arrays import is_picture

Entry = str | int | Callable[[Any], Any]
"""Key of a sample that is a mapping, position in one that is a tuple, or a function of the sample."""

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "input", "inputs")
MASK_KEYS = (
    *("mask", "masks", "label", "labels", "target", "gt", "annotation", "segmentation"),
    *("segmentation_mask", "semantic_mask", "seg_map", "gt_semantic_seg", "label_map"),
)


def split_sample(sample: object, name: str = "samples") -> tuple[Any, Any]:
    """Image and mask of a sample, or of a batch of samples.

    Of a mapping the entries `image` and `mask`; without these, the only entry with one of the usual names. Of a tuple
    the first two entries, if no later one can be a mask.

    Args:
        sample: a mapping, a tuple or a list.
        name: what it is called in messages.

    Raises:
        TypeError: another type, or entries that are not known or several; the message lists them.

    Examples:
        >>> split_sample({"pixel_values": "the image", "labels": "the mask", "id": 3})
        ('the image', 'the mask')
    """
    if isinstance(sample, Mapping):
        return _of_mapping(sample, name)
    if isinstance(sample, tuple | list) and len(sample) >= 2:
        others = [place for place, value in enumerate(sample) if place > 1 and _may_be_mask(value)]
        if not others:
            return sample[0], sample[1]
        places = ", ".join(map(str, (1, *others)))
        raise TypeError(
            f"{name} must be (image, mask), got {len(sample)} entries, of which {places} can be the mask; name the "
            f"entries, such as image=0, mask=1"
        )
    wanted = f"{name} must be mappings with 'image' and 'mask', or (image, mask), got"
    if isinstance(sample, tuple | list):
        raise TypeError(f"{wanted} {type(sample).__name__} of {len(sample)}; masks are needed: return (image, mask)")
    raise TypeError(
        f"{wanted} {type(sample).__name__}; give functions of the sample, such as image=lambda sample: sample.image, "
        "mask=lambda sample: sample.mask"
    )


def require_single(image: object, name: str) -> None:
    """Refuses the image of a sample that is a batch, as a list of what a `DataLoader` gives holds.

    Args:
        image: of the sample, in any form.
        name: of the sample, for the message.

    Raises:
        TypeError: it has four dimensions.
    """
    if isinstance(image, Tensor | np.ndarray) and image.ndim == 4:
        raise TypeError(
            f"{name} is a batch, with images {tuple(image.shape)}: pass single samples, as [sample for images, masks "
            "in batches for sample in zip(images, masks)], or the data set of the loader"
        )


def usual_entry(sample: object, place: int) -> Any:
    """Image or mask of a sample of which the other one is named.

    Args:
        sample: a mapping, a tuple or a list.
        place: 0 for the image, 1 for the mask.

    Raises:
        TypeError: as `split_sample`.
    """
    if isinstance(sample, Mapping):
        keys = [key for key in (IMAGE_KEYS, MASK_KEYS)[place] if key in sample]
        if len(keys) == 1 or ("image", "mask")[place] in keys:
            return sample[keys[0]]
    return split_sample(sample)[place]


def _of_mapping(sample: Mapping[Any, Any], name: str) -> tuple[Any, Any]:
    if "image" in sample and "mask" in sample:
        return sample["image"], sample["mask"]
    images, masks = ([key for key in keys if key in sample] for keys in (IMAGE_KEYS, MASK_KEYS))
    if len(images) == 1 and len(masks) == 1:
        return sample[images[0]], sample[masks[0]]
    raise TypeError(
        f"{name} must be mappings with 'image' and 'mask', or (image, mask), got the keys "
        f"{', '.join(sorted(map(repr, sample)))}; name the entries, such as image={_example(images, 'rgb')}, "
        f"mask={_example(masks, 'gt')}"
    )


def _example(found: list[str], otherwise: str) -> str:
    return repr(found[0] if found else otherwise)


def _may_be_mask(value: object) -> bool:
    """Whether an entry has pixels."""
    return is_picture(value) or (isinstance(value, Tensor | np.ndarray) and value.ndim >= 2)


def entry_of(sample: object, where: Entry, argument: str) -> Any:
    """An entry of a sample.

    Args:
        sample: a mapping, or a tuple.
        where: the entry.
        argument: the argument that names it, for messages.

    Raises:
        TypeError: a key for a tuple, or a position in a mapping.
        ValueError: an entry that the sample does not have.

    Examples:
        >>> entry_of(("the image", "the mask"), 1, "mask")
        'the mask'
    """
    if callable(where):
        return where(sample)
    if isinstance(sample, Mapping):
        if where in sample:
            return sample[where]
        raise ValueError(f"{argument}={where!r}: samples have the keys {list(sample)}; name one of them")
    if not isinstance(sample, tuple | list):
        raise TypeError(
            f"{argument}={where!r}: samples are of the type {type(sample).__name__}, neither mapping nor tuple; give a "
            f"function of the sample as {argument}"
        )
    if not isinstance(where, int):
        raise TypeError(
            f"{argument}={where!r}: samples are tuples of {len(sample)}; give the position, e.g. image=0, mask=1"
        )
    if not -len(sample) <= where < len(sample):
        raise ValueError(f"{argument}={where}: samples are tuples of {len(sample)}")
    return sample[where]
