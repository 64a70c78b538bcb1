"""Drawn street scenes: a data set without files, for demonstrations, tests and benchmarks."""

from typing import Literal

import numpy as np

from segrobust.data.files.images import Size, check_size
from segrobust.data.scenes import SCENES, render_scene
from segrobust.data.segmentation_dataset import JointTransform, Pixels, SegmentationDataset

_SPLITS = ("train", "val")
_DRAWING = 1
"""Counts changes of the drawing that change pixels, as a part of the fingerprint."""


class SyntheticScenes(SegmentationDataset):
    """Street scenes of 9 classes, drawn when they are asked for.

    Sky, houses, road, walks, plants, cars, lamps, signs and people in perspective, under a changing sun, with shadows,
    haze, texture and sensor noise; a band of void runs along the borders of some classes. Scene i of a split is a
    function of (seed, split, i) and the size alone, whatever the number of scenes; the splits share no scene. Other
    processors or releases of numpy and Pillow may round a few pixels differently.

    Args:
        num_scenes: number of samples.
        split: which stream of scenes.
        size: `(H, W)`, both at least 32.
        seed: chooses another world of scenes.
        transform: applied to every sample that is read; nothing when None.

    Raises:
        ValueError: `num_scenes` below 1, a negative seed, another split, or a size that is too small.
    """

    def __init__(
        self,
        num_scenes: int,
        split: Literal["train", "val"] = "train",
        size: Size = (192, 256),
        seed: int = 0,
        transform: JointTransform | None = None,
    ) -> None:
        if num_scenes < 1 or seed < 0:
            raise ValueError(f"num_scenes must be at least 1 and seed at least 0, got {num_scenes} and {seed}")
        if split not in _SPLITS:
            raise ValueError(f"split must be 'train' or 'val', got {split!r}")
        check_size(size)
        if min(size) < 32:
            raise ValueError(f"a scene needs at least 32 pixels in height and width, got size={size}")
        names = tuple(f"scene_{seed}_{split}_{index:06d}" for index in range(num_scenes))
        super().__init__(label_space=SCENES, names=names, transform=transform)
        self.split = split
        self.size = (size[0], size[1])
        self.seed = seed

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        """Draws scene `index`: `(H, W, 3)` and `(H, W)`, uint8."""
        rng = np.random.default_rng([self.seed, _SPLITS.index(self.split), index])
        return render_scene(rng, *self.size)

    def content(self) -> dict[str, object]:
        """Seed, split, size and the version of the drawing."""
        return {"seed": self.seed, "split": self.split, "size": self.size, "drawing": _DRAWING}

    def describe(self) -> str:
        """One line such as "synthetic scenes val, 100 images, 9 classes"."""
        return f"synthetic scenes {self.split}, {len(self)} images, {self.label_space.num_classes} classes"
