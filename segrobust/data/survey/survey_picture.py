"""A picture of a few samples: image, mask laid over it, and a legend of the classes that occur."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from segrobust.data.segmentation_dataset import SegmentationDataset
from segrobust.functional.display import ChannelView
from segrobust.label_space import LabelSpace

_OPACITY = 0.6
_MOST_ENTRIES = 40
_VOID_COLOR = (1.0, 1.0, 1.0)
"""White: black is the colour of a class in PASCAL VOC."""


def draw_samples(dataset: SegmentationDataset, indices: Sequence[int]) -> Figure:
    """Samples as a network gets them, after their transform; random transforms are drawn with seed 0.

    Args:
        dataset: read at these positions.
        indices: at least one.

    Raises:
        ValueError: a sample cannot be read.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        samples = [dataset[index] for index in indices]
    heights = [3.4 * sample["mask"].shape[0] / sample["mask"].shape[1] for sample in samples]
    figure = Figure(figsize=(10, sum(heights) + 0.3 * len(samples) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(samples), 2, squeeze=False, height_ratios=heights)
    shown: set[int] = set()
    for axes, sample in zip(rows, samples, strict=True):
        mask = sample["mask"]
        view = ChannelView.of(sample["image"], dataset.bands, stretched=dataset.value_range is not None)
        image = view.rgb(sample["image"]).permute(1, 2, 0).numpy()
        colors = dataset.label_space.colorize(mask).numpy() / 255
        colors[mask.numpy() == dataset.label_space.ignore_index] = _VOID_COLOR
        shown |= set(np.flatnonzero(np.bincount(mask.numpy().ravel())).tolist())
        axes[0].imshow(image)
        axes[1].imshow(((1 - _OPACITY) * image.mean(-1, keepdims=True) + _OPACITY * colors).clip(0, 1))
        height, width = mask.shape
        note = f" ({view.note})" if view.note else ""
        axes[0].set_title(f"{dataset.names[sample['sample_id']]}{note}", fontsize=9, loc="left", parse_math=False)
        axes[1].set_title(f"{height}x{width}, mask laid over", fontsize=9, loc="left")
        for each in axes:
            each.set_axis_off()
    figure.legend(handles=_legend(dataset.label_space, shown), loc="outside right upper", fontsize=9, frameon=False)
    return figure


def _legend(space: LabelSpace, shown: set[int]) -> list[Patch]:
    """Patches of the classes that occur, void at the end, as many as there is room for."""
    classes = sorted(shown - {space.ignore_index})
    patches = [
        Patch(facecolor=np.array(space.palette[index]) / 255, edgecolor="0.6", label=_plain(space.names[index]))
        for index in classes[:_MOST_ENTRIES]
    ]
    if len(classes) > _MOST_ENTRIES:
        patches.append(Patch(facecolor="none", label=f"and {len(classes) - _MOST_ENTRIES} more"))
    if space.ignore_index in shown:
        patches.append(Patch(facecolor=_VOID_COLOR, edgecolor="0.6", label="void"))
    return patches


def _plain(name: str) -> str:
    """A name without meaning to matplotlib: no formula between dollars, no entry that a leading underscore hides."""
    return name.replace("$", r"\$").removeprefix("_")
