"""Random changes of image and mask together, for training."""

import functools
import os
import random
from dataclasses import dataclass

import numpy as np
import torch

from segrobust.data.eval_transforms import grey
from segrobust.data.segmentation_dataset import ImageArray, JointTransform, Labels

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise the import asks a server for its newest version

import albumentations as A
import cv2


@dataclass(frozen=True, kw_only=True)
class TrainTransform(JointTransform):
    """Random scale, crop to a fixed size, horizontal flip and colour jitter.

    The randomness comes from torch's global generator, one seed per sample: `seed_everything(seed, workers=True)`
    makes batches repeatable for a given number of workers, and gives every worker of every rank its own stream.

    Attributes:
        size: `(H, W)` of the result. A smaller scaled image is padded: grey pixels, labelled void.
        scale: lowest and highest zoom, before the crop; drawn uniformly.
        flip: probability of mirroring left and right.
        color_jitter: strength of brightness, contrast and saturation changes; factors are drawn from
            [1 - c, 1 + c], hue turns by up to c / 4 of the circle. 0 turns them off. Images of other than one or three
            channels have brightness and contrast changed alone.

    Raises:
        ValueError: a size below 1, a scale that is not 0 < low <= high, a probability outside [0, 1], or a jitter
            outside [0, 1].
    """

    size: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    color_jitter: float = 0.3

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size is (height, width), both at least 1, got {self.size}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is (lowest, highest) zoom with 0 < lowest <= highest, got {self.scale}")
        for field in ("flip", "color_jitter"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in [0, 1], got {getattr(self, field)}")

    def __call__(self, image: ImageArray, mask: Labels, *, ignore_index: int) -> tuple[ImageArray, Labels]:
        """Draws one variant of a sample: `(H, W, C), (H, W) -> (*size, C), size`, each of its type."""
        pipeline = _pipeline(self, ignore_index, grey(image), in_colors=image.shape[2] in (1, 3))
        seed = int(torch.randint(2**62, ()))
        # One stream shared by all steps. `set_random_seed` would start every step at the same seed, so that the flip
        # would depend on the scale.
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = pipeline(image=image, mask=mask)
        return result["image"], result["mask"]


@functools.lru_cache(maxsize=8)
def _pipeline(settings: TrainTransform, ignore_index: int, padding: float, *, in_colors: bool) -> A.Compose:
    """Built once per process and settings: building takes longer than applying."""
    height, width = settings.size
    low, high = settings.scale
    return A.Compose(
        [
            A.RandomScale(
                scale_limit=(low - 1, high - 1),
                mask_interpolation=cv2.INTER_NEAREST_EXACT,  # INTER_NEAREST shifts the mask by up to half a pixel
                area_for_downscale="image",
                p=1,
            ),
            A.RandomCrop(height, width, pad_if_needed=True, fill=padding, fill_mask=ignore_index),
            A.HorizontalFlip(p=settings.flip),
            _jitter(settings.color_jitter, in_colors=in_colors),
        ]
    )


def _jitter(strength: float, *, in_colors: bool) -> A.ImageOnlyTransform:
    if not in_colors:  # saturation and hue are of colours
        return A.RandomBrightnessContrast(strength, strength, ensure_safe_range=True, p=float(strength > 0))
    return A.ColorJitter(
        brightness=(1 - strength, 1 + strength),
        contrast=(1 - strength, 1 + strength),
        saturation=(1 - strength, 1 + strength),
        hue=(-strength / 4, strength / 4),
        p=float(strength > 0),
    )
