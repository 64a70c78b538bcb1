"""Where pixels are right: near the borders of classes or inside them, and on small or on large objects.

Regions depend on the ground truth alone, so that clean and adversarial predictions are counted over the same pixels.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

BAND_SHARE: Final = 0.01
"""Width of the band on each side of a border, as a share of the image's diagonal: 3 pixels at 192x256."""

SIZE_LIMITS: Final = (1 / 300, 1 / 33)
"""Where objects stop being small, and medium, as shares of the image: 32x32 and 96x96 pixels at 480x640, as in COCO."""

SIZES: Final = ("small", "medium", "large")

Tally = tuple[int, int, int, int]
"""Of the objects of one size: objects, objects found (at least half of their pixels right), pixels, pixels right."""


@dataclass(frozen=True)
class Regions:
    """Regions of a batch of label maps.

    Attributes:
        valid: `(B, H, W)` bool, pixels that count.
        boundary: `(B, H, W)` bool, valid pixels near a border between classes.
        objects: `(B, H, W)` int64, number of the object that a valid pixel belongs to, from 1; 0 for void.
        sizes: per image `(N,)` int64, the size of each object: 0 small, 1 medium, 2 large.
    """

    valid: Tensor
    boundary: Tensor
    objects: Tensor
    sizes: tuple[Tensor, ...]

    def count_boundary(self, right: Tensor) -> list[tuple[int, int]]:
        """Per image the pixels near borders, and how many of them are right.

        Args:
            right: `(B, H, W)` bool, pixels that are predicted right.
        """
        inside = self.boundary.sum((1, 2)).tolist()
        return list(zip(inside, (self.boundary & right.cpu()).sum((1, 2)).tolist(), strict=True))

    def count_objects(self, right: Tensor) -> list[tuple[Tally, Tally, Tally]]:
        """Per image one tally for small, one for medium and one for large objects.

        Args:
            right: `(B, H, W)` bool, pixels that are predicted right.
        """
        return [self._tallies(row, right[row].cpu()) for row in range(len(self.valid))]

    def _tallies(self, row: int, right: Tensor) -> tuple[Tally, Tally, Tally]:
        objects, sizes = self.objects[row], self.sizes[row]
        total = torch.bincount(objects.flatten(), minlength=len(sizes) + 1)[1:]
        hits = torch.bincount(objects[right & self.valid[row]], minlength=len(sizes) + 1)[1:]

        def tally(size: int) -> Tally:
            pixels, found = total[sizes == size], hits[sizes == size]
            return len(pixels), int((2 * found >= pixels).sum()), int(pixels.sum()), int(found.sum())

        return tally(0), tally(1), tally(2)


def find_regions(labels: Tensor, valid: Tensor) -> Regions:
    """Finds the borders between classes, and the objects: connected areas (8 neighbours) of one class.

    A pixel is near a border if a valid pixel of another class lies in the square window around it whose half-width is
    `BAND_SHARE` of the diagonal, at least one pixel; the edge of a void area is no border. An area of a class that is
    no thing, such as sky, counts as an object too, usually a large one.

    Source: the band follows Boundary IoU (Cheng et al., CVPR 2021), with half its width.

    Args:
        labels: `(B, H, W)` int64; free where a pixel is not valid.
        valid: `(B, H, W)` bool, pixels that count.

    Examples:
        >>> labels = torch.tensor([[[0, 0, 0, 1, 1]]])
        >>> regions = find_regions(labels, valid=labels >= 0)
        >>> regions.boundary, regions.objects
        (tensor([[[False, False,  True,  True, False]]]), tensor([[[1, 1, 1, 2, 2]]]))
    """
    labels, valid = labels.cpu(), valid.cpu()
    found = [_objects(row.numpy(), mask.numpy()) for row, mask in zip(labels, valid, strict=True)]
    return Regions(
        valid=valid,
        boundary=_boundary(labels, valid),
        objects=torch.stack([objects for objects, _ in found]),
        sizes=tuple(sizes for _, sizes in found),
    )


def _boundary(labels: Tensor, valid: Tensor) -> Tensor:
    """Valid pixels whose window holds two classes: the largest label in it differs from the smallest."""
    height, width = labels.shape[-2:]
    reach = max(1, round(BAND_SHARE * float(np.hypot(height, width))))
    largest = labels.masked_fill(~valid, -1).float()
    smallest = -labels.masked_fill(~valid, 2**20).float()
    stacked = torch.stack([largest, smallest], 1)
    pooled = F.max_pool2d(stacked, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    pooled = F.max_pool2d(pooled, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return valid & (pooled[:, 0] != -pooled[:, 1])


def _objects(labels: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Numbers of objects `(H, W)` from 1 on, and their sizes `(N,)`."""
    objects = np.zeros(labels.shape, dtype=np.int64)
    count = 0
    for label in np.unique(labels[valid]):
        numbers, found = ndimage.label(valid & (labels == label), structure=np.ones((3, 3), dtype=bool))
        objects[numbers > 0] = numbers[numbers > 0] + count
        count += found
    pixels = np.bincount(objects.ravel(), minlength=count + 1)[1:]
    sizes = np.digitize(pixels, [limit * labels.size for limit in SIZE_LIMITS])
    return torch.from_numpy(objects), torch.from_numpy(sizes.astype(np.int64))
