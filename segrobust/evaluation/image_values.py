"""What some images hold, looked at before the work: channels, type, and the values that occur."""

from collections.abc import Sequence

import torch

from segrobust.evaluation.dataset import SampleSource, load_sample, value_range_of
from segrobust.value_range import far_value

MOST_IMAGES = 8
"""Images that are read before the work, spread over the samples."""

_SHOWN = 16
"""Channels in a line."""


def describe_images(dataset: SampleSource, ids: Sequence[int], most: int = MOST_IMAGES) -> str:
    """One line: number of channels, type, and lowest and highest value of each channel; with a range in its units.

    Args:
        dataset: where the samples are from. Samples that cannot be read are left out.
        ids: positions of the samples.
        most: number of images to read, spread evenly over `ids`.
    """
    number = min(len(ids), most)
    images = []
    for index in (ids[place * len(ids) // number] for place in range(number)):
        try:
            images.append(load_sample(dataset, index).image)
        except (OSError, ValueError):
            continue
    if not images:
        return "images: none could be read"
    channels, value_range = len(images[0]), value_range_of(dataset)
    values = torch.cat([image.flatten(1).double() for image in images if len(image) == channels], dim=1)
    lowest, highest = values.amin(1).tolist(), values.amax(1).tolist()
    if value_range is not None:
        lowest, highest = value_range.values(lowest), value_range.values(highest)
    seen = "; ".join(f"{low:.4g}..{high:.4g}" for low, high in list(zip(lowest, highest, strict=True))[:_SHOWN])
    kind = str(images[0].dtype).removeprefix("torch.")
    line = (
        f"images, {len(images)} of {len(ids)}: {channels} channel{'s' if channels > 1 else ''} in {kind}, values {seen}"
    )
    if channels > _SHOWN:
        line += f"; and {channels - _SHOWN} more channels"
    if value_range is None:
        return line
    far = [far_value(plane.numpy()) for plane in values]
    marks = value_range.values([0.0 if value is None else value for value in far])
    shown = dict.fromkeys(f"{mark:.4g}" for mark, value in zip(marks, far, strict=True) if value is not None)
    missing = f"; {', '.join(shown)} lies far from all others, as marks of missing data do" if shown else ""
    return f"{line} in a range of {value_range}{missing}"
