"""Confusion counts per image in exact integers, and the scores made of them.

Which classes enter a mean: those *present in the ground truth* (tp + fn > 0), over the evaluated set for scores of a
data set, within the image for scores of an image. A class that is absent has the IoU nan and leaves every mean. Where
it is predicted nevertheless, its pixels are false negatives of the classes they belong to and lower *their* IoU; giving
it an IoU of 0 as well would punish one pixel twice, and one stray pixel would move the mean by 1/K.

Scores over a data set (mIoU^D) sum the counts of all images first; mIoU^I is a mean over images. The two are not
comparable.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from segrobust.label_space import check_ignore_index

NO_ID = -1
"""Sample id of an image that has none."""


@dataclass(frozen=True, kw_only=True)
class ConfusionCounts:
    """True positives, false positives and false negatives of every class, in valid pixels.

    Args:
        tp: `(B, K)` int64, pixels of the class that are predicted as such; or `(K,)` for a whole set.
        fp: `(B, K)` int64, pixels of other classes that are predicted as this one.
        fn: `(B, K)` int64, pixels of the class that are predicted as another one.

    Raises:
        TypeError: a tensor is not int64.
        ValueError: the shapes differ, or are not `(B, K)` or `(K,)`.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor

    def __post_init__(self) -> None:
        shapes = {name: tuple(counts.shape) for name, counts in vars(self).items()}
        if len(set(shapes.values())) != 1 or self.tp.ndim not in (1, 2):
            raise ValueError(f"tp, fp and fn must share one shape, (B, K) or (K,), got {shapes}")
        dtypes = {name: counts.dtype for name, counts in vars(self).items()}
        if set(dtypes.values()) != {torch.int64}:
            raise TypeError(f"counts must be int64 to stay exact, got {dtypes}")

    def total(self) -> "ConfusionCounts":
        """Sums over the images: `(B, K) -> (K,)`. Counts of a whole set are returned unchanged."""
        if self.tp.ndim == 1:
            return self
        return ConfusionCounts(tp=self.tp.sum(0), fp=self.fp.sum(0), fn=self.fn.sum(0))


def confusion_counts(prediction: Tensor, labels: Tensor, num_classes: int, valid_mask: Tensor) -> ConfusionCounts:
    """Counts tp, fp and fn of every class in every image: `(B, H, W), (B, H, W), (B, H, W) -> (B, K)` each.

    Args:
        prediction: `(B, H, W)` integer, predicted classes; free where the pixel is not valid.
        labels: `(B, H, W)` integer, ground truth; free where the pixel is not valid.
        num_classes: K.
        valid_mask: `(B, H, W)` bool, pixels that count.

    Raises:
        TypeError: classes that are not integers (logits?), or a mask that is not bool.
        ValueError: the shapes differ, or a valid pixel holds a class outside of 0 to K - 1.

    Examples:
        >>> labels = torch.tensor([[[0, 0, 1, 255]]])  # one image; 255 is void
        >>> prediction = torch.tensor([[[0, 1, 1, 0]]])
        >>> counts = confusion_counts(prediction, labels, num_classes=2, valid_mask=labels != 255)
        >>> counts.tp, counts.fp, counts.fn
        (tensor([[1, 1]]), tensor([[0, 1]]), tensor([[1, 0]]))
    """
    _check_maps(prediction, labels, valid_mask)
    predicted, expected = prediction[valid_mask].long(), labels[valid_mask].long()
    _check_classes("prediction", predicted, num_classes)
    _check_classes("labels", expected, num_classes)
    batch = len(labels)
    offsets = torch.arange(batch, device=labels.device).view(-1, 1, 1).expand_as(labels)[valid_mask] * num_classes

    def count(cells: Tensor) -> Tensor:
        return torch.bincount(cells, minlength=batch * num_classes).view(batch, num_classes)

    tp = count((offsets + expected)[predicted == expected])
    return ConfusionCounts(tp=tp, fp=count(offsets + predicted) - tp, fn=count(offsets + expected) - tp)


def iou_per_class(counts: ConfusionCounts) -> Tensor:
    """IoU of each class, tp / (tp + fp + fn), float64, `(B, K)` or `(K,)`; nan where the ground truth lacks the class.

    With counts `(B, K)` these are the IoUs within each image; take `counts.total()` for those of the data set.

    Examples:
        >>> labels = torch.tensor([[[0, 0, 1, 255]]])  # one image; 255 is void
        >>> counts = confusion_counts(torch.tensor([[[0, 1, 1, 0]]]), labels, 2, labels != 255)
        >>> iou_per_class(counts)
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    iou = counts.tp.double() / (counts.tp + counts.fp + counts.fn)
    return iou.where(counts.tp + counts.fn > 0, torch.nan)


def miou_dataset(counts: ConfusionCounts) -> Tensor:
    """Gives mIoU^D: the mean IoU over classes present in the ground truth of the whole set; float64 scalar.

    nan where no pixel is valid.

    Examples:
        >>> labels = torch.tensor([[[0, 0, 1, 255]], [[1, 1, 1, 1]]])  # two images; 255 is void
        >>> prediction = torch.tensor([[[0, 1, 1, 0]], [[1, 1, 1, 1]]])
        >>> miou_dataset(confusion_counts(prediction, labels, 2, labels != 255))
        tensor(0.6667, dtype=torch.float64)
    """
    return iou_per_class(counts.total()).nanmean()


def miou_image(counts: ConfusionCounts) -> Tensor:
    """Gives mIoU^I: the mean over images of the mean IoU over classes present in that image; float64 scalar.

    Images without a valid pixel are left out; nan where there is no other. Source: arXiv 2310.19252.

    Raises:
        ValueError: the counts have been summed over images already.

    Examples:
        >>> labels = torch.tensor([[[0, 0, 1, 255]], [[1, 1, 1, 1]]])  # two images; 255 is void
        >>> prediction = torch.tensor([[[0, 1, 1, 0]], [[1, 1, 1, 1]]])
        >>> miou_image(confusion_counts(prediction, labels, 2, labels != 255))
        tensor(0.7500, dtype=torch.float64)
    """
    if counts.tp.ndim != 2:
        raise ValueError(f"mIoU^I needs counts per image (B, K), got {tuple(counts.tp.shape)}, summed over the images")
    return iou_per_class(counts).nanmean(dim=1).nanmean()


def accuracy(counts: ConfusionCounts) -> Tensor:
    """Gives aAcc: the share of valid pixels of the whole set that are predicted right; float64 scalar, nan if none.

    Examples:
        >>> labels = torch.tensor([[[0, 0, 1, 255]]])  # one image; 255 is void
        >>> counts = confusion_counts(torch.tensor([[[0, 1, 1, 0]]]), labels, 2, labels != 255)
        >>> accuracy(counts)
        tensor(0.6667, dtype=torch.float64)
    """
    return counts.tp.sum().double() / (counts.tp + counts.fn).sum()


def class_accuracy(counts: ConfusionCounts) -> Tensor:
    """Gives mAcc: the mean of tp / (tp + fn) over classes present in the whole set; float64 scalar, nan if none.

    Examples:
        >>> labels = torch.tensor([[[0, 0, 1, 255]]])  # one image; 255 is void
        >>> counts = confusion_counts(torch.tensor([[[0, 1, 1, 0]]]), labels, 2, labels != 255)
        >>> class_accuracy(counts)
        tensor(0.7500, dtype=torch.float64)
    """
    total = counts.total()
    return (total.tp.double() / (total.tp + total.fn)).nanmean()


class SegmentationScores(NamedTuple):
    """Scores of a data set, as plain numbers in [0, 1].

    A named tuple and not a frozen dataclass, because torchmetrics rebuilds what `compute` returns field by field.

    Attributes:
        miou: mIoU^D.
        accuracy: aAcc.
        mean_class_accuracy: mAcc.
        iou: K values, nan for classes absent from the ground truth.
    """

    miou: float
    accuracy: float
    mean_class_accuracy: float
    iou: tuple[float, ...]


def segmentation_scores(counts: ConfusionCounts) -> SegmentationScores:
    """Gives the scores of a data set from its counts, `(B, K)` or `(K,)`.

    Examples:
        >>> labels = torch.tensor([[[0, 0, 1, 255]]])  # one image; 255 is void
        >>> counts = confusion_counts(torch.tensor([[[0, 1, 1, 0]]]), labels, 2, labels != 255)
        >>> scores = segmentation_scores(counts)
        >>> scores.miou, scores.iou
        (0.5, (0.5, 0.5))
    """
    total = counts.total()
    return SegmentationScores(
        miou=miou_dataset(total).item(),
        accuracy=accuracy(total).item(),
        mean_class_accuracy=class_accuracy(total).item(),
        iou=tuple(iou_per_class(total).tolist()),
    )


class ConfusionMetric(Metric):
    """Counts of images, accumulated over batches and processes in int64: exact for any sharding.

    Keeps the counts of each image, `1 + 3 K` integers, until `compute`: an image that comes twice with one sample id,
    as where a distributed sampler repeats images to give each process as many, counts once.

    Args:
        num_classes: K.
        ignore_index: label of the void pixels, which do not count; predictions on them are free.

    Raises:
        ValueError: `num_classes` is less than 2.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    rows: list[Tensor]

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        check_ignore_index(ignore_index, num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forgets everything counted."""
        super().reset()
        # torchmetrics would gather the state of a process without images as floating-point numbers
        self.rows = [torch.zeros(0, 1 + 3 * self.num_classes, dtype=torch.int64, device=self.device)]

    def update(self, prediction: Tensor, labels: Tensor, sample_ids: Tensor | None = None) -> None:
        """Counts a batch.

        Args:
            prediction: `(B, H, W)` integer, predicted classes.
            labels: `(B, H, W)` integer, ground truth with void.
            sample_ids: `(B,)` integer, at least 0; images with one id count once. None counts every image.

        Raises:
            TypeError: classes that are not integers.
            ValueError: as `confusion_counts`; a foreign label is named.
        """
        counts = confusion_counts(prediction, labels, self.num_classes, labels != self.ignore_index)
        ids = labels.new_full((len(labels),), NO_ID) if sample_ids is None else sample_ids
        self.rows.append(torch.cat([ids.long()[:, None], counts.tp, counts.fp, counts.fn], 1))

    def counts(self) -> ConfusionCounts:
        """The counts summed over all images, `(K,)` each; of this process alone, except within `compute`."""
        rows = dim_zero_cat(self.rows)
        tp, fp, fn = rows[is_first(rows[:, 0]), 1:].sum(0).view(3, self.num_classes)
        return ConfusionCounts(tp=tp, fp=fp, fn=fn)


class SegmentationConfusion(ConfusionMetric):
    """All scores of a data set; see `ConfusionMetric`.

    Log the numbers of `compute()`, not the metric: they are equal on every process (`sync_dist=False`).

    Examples:
        >>> metric = SegmentationConfusion(num_classes=2)
        >>> metric.update(torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 0, 1, 255]]]))
        >>> metric.compute().miou
        0.5
    """

    def compute(self) -> SegmentationScores:
        """Gives the scores over everything counted by all processes."""
        return segmentation_scores(self.counts())


def is_first(ids: Tensor) -> Tensor:
    """Whether an id has not come before, `(N,) -> (N,)` bool; always where there is none.

    Examples:
        >>> is_first(torch.tensor([4, 7, 4, 7, 2])).tolist()
        [True, True, False, False, True]
    """
    _, group = torch.unique(ids, return_inverse=True)
    places = torch.arange(len(ids), device=ids.device)
    first = places.new_full((len(ids),), len(ids)).scatter_reduce(0, group, places, "amin")
    return (ids == NO_ID) | (first[group] == places)


def _check_maps(prediction: Tensor, labels: Tensor, valid_mask: Tensor) -> None:
    shapes = tuple(prediction.shape), tuple(labels.shape), tuple(valid_mask.shape)
    if len(set(shapes)) != 1 or labels.ndim != 3:
        raise ValueError(
            f"prediction, labels and valid_mask must share one shape (B, H, W), got {shapes}; "
            f"logits (B, K, H, W) are turned into a prediction by logits.argmax(1)"
        )
    for name, classes in (("prediction", prediction), ("labels", labels)):
        if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
            raise TypeError(f"{name} must hold integer classes, got {classes.dtype}")
    if valid_mask.dtype != torch.bool:
        raise TypeError(f"valid_mask must be bool, got {valid_mask.dtype}")


def _check_classes(name: str, classes: Tensor, num_classes: int) -> None:
    foreign = classes[(classes < 0) | (classes >= num_classes)]
    if len(foreign):
        raise ValueError(
            f"{name} holds {sorted(set(foreign.tolist()))[:8]} in valid pixels; allowed are 0 to {num_classes - 1}: "
            f"map these values to classes, or to the ignore_index"
        )
