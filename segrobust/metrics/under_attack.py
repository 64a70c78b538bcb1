"""Metrics of torchmetrics for attacked images, one number each, for a `MetricCollection` or alone.

The arguments of `update` have the names of the fields of `AttackResult`, so that a collection takes what each metric
asks for: `metrics.update(**vars(result), labels=labels)`. Results of other attacks are given by the same names.

One metric is about one attack. The worst case over several attacks, with intervals and bounds, is what
`segrobust.evaluate` gives.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from segrobust.metrics.confusion import NO_ID, ConfusionMetric, accuracy, is_first, miou_dataset
from segrobust.metrics.norm_statistics import asr, asr_at, quantiles


class RobustMeanIoU(ConfusionMetric):
    """Gives mIoU^D of the predictions under an attack, in [0, 1]: an upper bound on that under the worst attack.

    nan while no pixel is valid. Args and `update` as `ConfusionMetric`.

    Examples:
        >>> metric = RobustMeanIoU(num_classes=2)
        >>> metric.update(prediction=torch.tensor([[[0, 1, 1, 0]]]), labels=torch.tensor([[[0, 0, 1, 255]]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """Gives the mIoU^D over everything counted by all processes, float64 scalar."""
        return miou_dataset(self.counts())


class RobustAccuracy(ConfusionMetric):
    """Gives aAcc, the share of valid pixels that are right under an attack: an upper bound, as `RobustMeanIoU`.

    nan while no pixel is valid. Args and `update` as `ConfusionMetric`.

    Examples:
        >>> metric = RobustAccuracy(num_classes=2)
        >>> metric.update(prediction=torch.tensor([[[0, 1, 1, 0]]]), labels=torch.tensor([[[0, 0, 1, 255]]]))
        >>> metric.compute()
        tensor(0.6667, dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """Gives the aAcc over everything counted by all processes, float64 scalar."""
        return accuracy(self.counts())


class NormMetric(Metric):
    """Norms of the perturbations that broke an image, accumulated over batches and processes.

    An image that was not broken has the norm inf and stays in every statistic. An image that comes twice with one
    sample id counts once.
    """

    is_differentiable = False
    full_state_update = False

    ids: list[Tensor]
    norms: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("ids", [], dist_reduce_fx="cat")
        self.add_state("norms", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        # so that a process without images has the types of the others
        self.ids = [torch.zeros(0, dtype=torch.int64, device=self.device)]
        self.norms = [torch.zeros(0, dtype=torch.float64, device=self.device)]

    def update(
        self, norm: Tensor, success: Tensor, apsr: Tensor | None = None, sample_ids: Tensor | None = None
    ) -> None:
        """Takes a batch of results.

        Args:
            norm: `(B,)` floating point, norm of each perturbation, image units.
            success: `(B,)` bool, whether it broke its image.
            apsr: `(B,)`, of which only nan counts: images without a valid pixel, which are left out. None for none.
            sample_ids: `(B,)` integer, at least 0; images with one id count once. None counts every image.

        Raises:
            TypeError: `norm` is not floating point, or `success` not bool.
            ValueError: the shapes differ, or the norm of a success is nan or negative.
        """
        _check_results(norm, success, apsr=apsr, sample_ids=sample_ids)
        counts = torch.ones_like(success) if apsr is None else ~apsr.isnan()
        ids = torch.full_like(success, NO_ID, dtype=torch.int64) if sample_ids is None else sample_ids.long()
        self.ids.append(ids[counts])
        self.norms.append(norm.double().where(success, torch.inf)[counts])

    def counted(self) -> Tensor:
        """The norms `(N,)`, float64, each image once; of this process alone, except within `compute`."""
        norms: Tensor = dim_zero_cat(self.norms)[is_first(dim_zero_cat(self.ids))]
        return norms

    def _scalar(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)


class AttackSuccessRate(NormMetric):
    """Gives the share of images that an attack broke, in [0, 1]: a lower bound, since a stronger attack breaks more.

    nan while there is no image.

    Args:
        eps: a radius, image units: only perturbations of at most this norm count, which for a minimal-norm attack gives
            the rate at any radius from one run. None counts every success.

    Raises:
        ValueError: a radius that is negative or nan.

    Examples:
        >>> metric = AttackSuccessRate(eps=4 / 255)
        >>> metric.update(norm=torch.tensor([0.01, 0.02, torch.inf]), success=torch.tensor([True, True, False]))
        >>> metric.compute()
        tensor(0.3333, dtype=torch.float64)
    """

    higher_is_better = False

    def __init__(self, eps: float | None = None) -> None:
        if eps is not None and not eps >= 0:
            raise ValueError(f"eps must be at least 0, in image units, or None for every success, got {eps}")
        super().__init__()
        self.eps = eps

    def compute(self) -> Tensor:
        """Gives the share over the images of all processes, float64 scalar."""
        norms = self.counted()
        if not len(norms):
            return self._scalar(math.nan)
        return self._scalar(asr(norms) if self.eps is None else asr_at(norms, (self.eps,))[0])


class MedianNorm(NormMetric):
    """Gives the median norm that a minimal-norm attack found: an upper bound on the median of the smallest norms.

    Image units, times 255 for those of 8-bit pictures. inf where half of the images were not broken, nan while there
    is no image.

    Examples:
        >>> metric = MedianNorm()
        >>> metric.update(norm=torch.tensor([0.01, 0.02, torch.inf]), success=torch.tensor([True, True, False]))
        >>> metric.compute()
        tensor(0.0200, dtype=torch.float64)
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """Gives the median over the images of all processes, float64 scalar."""
        norms = self.counted()
        return self._scalar(quantiles(norms, (0.5,))[0] if len(norms) else math.nan)


def _check_results(norm: Tensor, success: Tensor, **others: Any) -> None:
    if not norm.is_floating_point() or success.dtype != torch.bool:
        raise TypeError(f"norm must be floating point and success bool, got {norm.dtype} and {success.dtype}")
    given = {"norm": norm, "success": success, **{name: value for name, value in others.items() if value is not None}}
    shapes = {name: tuple(value.shape) for name, value in given.items()}
    if norm.ndim != 1 or len({*shapes.values()}) != 1:
        raise ValueError(f"all arguments have one value per image, (B,), got {shapes}")
    wrong = norm[success & ~(norm >= 0)]
    if len(wrong):
        raise ValueError(f"the norm of a success is at least 0, got {wrong[0].item()}")
