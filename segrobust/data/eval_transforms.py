"""Fixed changes of image and mask together, for evaluation: what papers measure their networks on."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from segrobust.data.files.images import Size, check_size, resize_image, resize_labels
from segrobust.data.segmentation_dataset import ImageArray, JointTransform, Labels

_Value = TypeVar("_Value", bound=np.uint8 | np.uint16 | np.float32)


def grey(image: ImageArray) -> float:
    """The value of padding in an image of bytes, or of floats in [0, 1]."""
    return 128 if image.dtype == np.uint8 else 0.5


@dataclass(frozen=True, kw_only=True)
class EvalTransform(JointTransform):
    """Resizes the shorter side, then cuts the centre out; nothing is random.

    Images are resized bilinearly with antialiasing, masks to the nearest pixel centre. Sizes and offsets are rounded as
    torchvision's `Resize` and `CenterCrop` round them.

    Attributes:
        shorter_side: height or width, whichever is smaller, of the resized image; the aspect ratio stays. Nothing is
            resized when None.
        crop: `(H, W)` of the centre that is kept. A smaller image is padded: grey pixels, labelled void. Everything is
            kept when None.

    Raises:
        ValueError: neither of the two, or a size below 1.
    """

    shorter_side: int | None = None
    crop: Size | None = None

    def __post_init__(self) -> None:
        if self.shorter_side is None and self.crop is None:
            raise ValueError("a transform that changes nothing: set shorter_side, crop, or both")
        if self.shorter_side is not None and self.shorter_side < 1:
            raise ValueError(f"shorter_side must be at least 1, got {self.shorter_side}")
        check_size(self.crop)

    def __call__(self, image: ImageArray, mask: Labels, *, ignore_index: int) -> tuple[ImageArray, Labels]:
        """Transforms one sample, `(H, W, C), (H, W) -> (H', W', C), (H', W')`, each of its type."""
        if self.shorter_side is not None:
            height, width = mask.shape
            short, long = sorted((height, width))
            longer_side = int(self.shorter_side * long / short)
            size = (self.shorter_side, longer_side) if height == short else (longer_side, self.shorter_side)
            image, mask = resize_image(image, size), resize_labels(mask, size)
        if self.crop is not None:
            image, mask = _cut(image, self.crop, grey(image)), _cut(mask, self.crop, ignore_index)
        return image, mask


def _cut(pixels: npt.NDArray[_Value], size: Size, fill: float) -> npt.NDArray[_Value]:
    """The centre of `(H, W, ...)`, padded first where it is smaller."""
    missing = [max(0, wanted - there) for wanted, there in zip(size, pixels.shape, strict=False)]
    if any(missing):
        border = [(gap // 2, gap - gap // 2) for gap in missing] + [(0, 0)] * (pixels.ndim - 2)
        pixels = np.pad(pixels, border, constant_values=fill)
    top, left = (round((there - wanted) / 2) for wanted, there in zip(size, pixels.shape, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]
