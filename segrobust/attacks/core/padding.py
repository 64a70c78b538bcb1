"""Images of different sizes in one batch, with padding that is void and that the adversary may not change."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PaddedBatch:
    """Images and labels of different sizes, padded at the bottom and at the right to one size.

    Attributes:
        images: `(B, C, H, W)`; the padding repeats the last row and column.
        labels: `(B, H, W)` int64; void in the padding.
        inside: `(B, H, W)` bool, False in the padding. Pass it as `perturbable_mask=` to an attack, so that the
            padding, whose labels are void, is not perturbed.
        sizes: height and width of each image.
    """

    images: Tensor
    labels: Tensor
    inside: Tensor
    sizes: tuple[tuple[int, int], ...]

    def cut(self, batch: Tensor) -> list[Tensor]:
        """Removes the padding of `(B, ..., H, W)`, such as `result.adv`: B tensors `(..., h, w)`.

        Raises:
            ValueError: the tensor has another size than the batch.
        """
        height, width = self.images.shape[2:]
        if len(batch) != len(self.sizes) or batch.shape[-2:] != (height, width):
            expected = f"({len(self.sizes)}, ..., {height}, {width})"
            raise ValueError(f"expected a tensor {expected} of this batch, got {tuple(batch.shape)}")
        return [each[..., :h, :w] for each, (h, w) in zip(batch, self.sizes, strict=True)]


def pad_batch(images: Sequence[Tensor], labels: Sequence[Tensor], *, ignore_index: int = 255) -> PaddedBatch:
    """Makes one batch of images of different sizes.

        batch = pad_batch(images, labels)
        result = attack(network, batch.images, batch.labels, perturbable_mask=batch.inside)
        advs = batch.cut(result.adv)

    The result of an image equals that of the image alone, up to rounding, if the logits of a pixel do not depend on
    other pixels (1x1 convolutions) and the attack does not depend on the padded size: random starts are drawn for the
    whole size, and ALMA-prox, PDPGD and searches over a radius scale l2 and l1 by the number of values, padding
    included.

    Other networks see the padding near the border, and through global pooling everywhere. A padded image is then
    another problem than the image, and its norm is not that of the image. `segrobust.evaluate` never pads: it batches
    images of one size.

    Args:
        images: tensors `(C, h, w)`.
        labels: tensors `(h, w)` int64.
        ignore_index: label given to the padding; pass the same to the attack.

    Raises:
        ValueError: no image, another number of labels, or shapes that do not match.

    Examples:
        >>> images = [torch.rand(3, 4, 6), torch.rand(3, 5, 5)]
        >>> labels = [torch.zeros(4, 6).long(), torch.ones(5, 5).long()]
        >>> batch = pad_batch(images, labels)
        >>> batch.images.shape, batch.inside.sum((1, 2)).tolist()
        (torch.Size([2, 3, 5, 6]), [24, 25])
        >>> [image.shape == cut.shape for image, cut in zip(images, batch.cut(batch.images))]
        [True, True]
    """
    if not images or len(images) != len(labels):
        raise ValueError(
            f"a batch needs as many labels as images, and at least one, got {len(labels)} and {len(images)}"
        )
    for image, label in zip(images, labels, strict=True):
        if image.dim() != 3 or image.shape[0] != images[0].shape[0] or label.shape != image.shape[1:]:
            raise ValueError(
                f"images must be (C, h, w) with C = {images[0].shape[0]}, and labels (h, w) of the same size, "
                f"got {tuple(image.shape)} and {tuple(label.shape)}"
            )
    height, width = (max(image.shape[dim] for image in images) for dim in (1, 2))
    missing = [(0, width - image.shape[2], 0, height - image.shape[1]) for image in images]
    padded_labels = [F.pad(label, pad, value=ignore_index) for label, pad in zip(labels, missing, strict=True)]
    return PaddedBatch(
        images=torch.stack([F.pad(image, pad, mode="replicate") for image, pad in zip(images, missing, strict=True)]),
        labels=torch.stack(padded_labels),
        inside=torch.stack(
            [F.pad(torch.ones_like(label, dtype=torch.bool), pad) for label, pad in zip(labels, missing, strict=True)]
        ),
        sizes=tuple((image.shape[1], image.shape[2]) for image in images),
    )
