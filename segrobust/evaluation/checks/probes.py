"""A few images, and what checks measure of the network on them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from segrobust.attacks import Criterion
from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.attacks.core.problem import Problem, check_classes
from segrobust.evaluation.dataset import LoadedSample, SampleSource, load_sample
from segrobust.evaluation.forward import batch_problem, device_of, precision_of

LogitLoss = Callable[[Tensor, Tensor], Tensor]
"""A loss of every pixel, `(B, K, H, W), (B, H, W) -> (B, H, W)`."""


@dataclass(frozen=True)
class Probe:
    """A batch of images of one size for checks. To be used inside `attackable`.

    Attributes:
        network: what is checked.
        problem: the images, their labels and valid pixels.
        criterion: when a pixel and an image are broken.
        sample_ids: positions of the images in the data set.
    """

    network: nn.Module
    problem: Problem
    criterion: Criterion
    sample_ids: tuple[int, ...]

    @cached_property
    def _first(self) -> NetworkOracle:
        """The oracle that gives the logits of the clean images."""
        return NetworkOracle(self.network, self.problem.images)

    def oracle(self) -> NetworkOracle:
        """An oracle of the images; all of them hide excluded classes (logits of -inf) by the same value."""
        _ = self.clean
        return self._first.select(torch.arange(len(self.sample_ids)))

    def logits(self, delta: Tensor | None = None) -> Tensor:
        """Logits under a perturbation `(B, C, H, W)`, or of the clean images: `(B, K, H, W)`; one forward."""
        perturbation = torch.zeros_like(self.problem.images) if delta is None else delta
        return self.oracle().logits(perturbation, differentiable=False)

    @cached_property
    def clean(self) -> Tensor:
        """Logits of the clean images, from the first forward: `(B, K, H, W)`.

        Raises:
            FloatingPointError: the network returned NaN or infinite logits.
            ValueError: labels that the network does not know.
        """
        logits = self._first.logits(torch.zeros_like(self.problem.images), differentiable=False)
        check_classes(self.problem, logits.shape[1])
        if not logits.isfinite().all():
            raise FloatingPointError(
                f"the network returned NaN or infinite logits for images {self.sample_ids} without attack: check its "
                "weights, normalisation layers and precision"
            )
        return logits

    @cached_property
    def possible(self) -> Tensor:
        """Clean logits of classes that are not excluded by -inf: `(B, K, H, W)` bool."""
        return self.clean > (-torch.inf if self._first.floor is None else self._first.floor)

    @cached_property
    def scale(self) -> Tensor:
        """Standard deviation of the possible clean logits of each image: `(B,)`, positive."""
        found = [logits[possible].std() for logits, possible in zip(self.clean, self.possible, strict=True)]
        return torch.stack(found).clamp_min(torch.finfo(self.clean.dtype).tiny)

    @cached_property
    def spread(self) -> Tensor:
        """Largest difference of two more forwards from the first, over the scale of the logits: `(B,)`."""
        return torch.maximum(self.distance(self.logits()), self.distance(self.logits()))

    @property
    def float_noise(self) -> float:
        """Difference of logits, over their scale, that floating-point noise may cause: 3.5e-4 in float32."""
        return float(torch.finfo(self.clean.dtype).eps ** 0.5)

    def distance(self, logits: Tensor) -> Tensor:
        """Largest difference from the clean logits, over their scale: `(B,)`."""
        if self._first.floor is not None:
            logits = logits.clamp_min(self._first.floor)
        return (logits - self.clean).abs().flatten(1).amax(1) / self.scale

    def changed(self, logits: Tensor) -> Tensor:
        """Share of pixels whose predicted class is not that of the clean logits: `(B,)`."""
        return (logits.argmax(1) != self.clean.argmax(1)).flatten(1).double().mean(1)

    def gradient(self, loss: LogitLoss) -> Tensor:
        """Gradient at the clean images of a loss summed over valid pixels: `(B, C, H, W)`; one forward and backward.

        Raises:
            ValueError: the output does not depend on the input differentiably.
        """
        oracle = self.oracle()
        leaf = oracle.logits(torch.zeros_like(self.problem.images)).requires_grad_()
        with torch.enable_grad():
            total = (loss(leaf, self.problem.labels) * self.problem.valid_mask).sum()
        (cotangent,) = torch.autograd.grad(total, leaf)
        return oracle.pullback(cotangent)

    @property
    def labelled(self) -> Tensor:
        """Places of the images that have a valid pixel: int64 on CPU."""
        return self.problem.num_valid.cpu().nonzero()[:, 0]

    @property
    def intact(self) -> Tensor:
        """Places of the images that have a valid pixel and are not broken without attack: int64 on CPU."""
        _, broken = self.criterion.outcome(self.criterion.broken(self.clean, self.problem), self.problem)
        return ((self.problem.num_valid > 0) & ~broken).cpu().nonzero()[:, 0]

    def select(self, rows: Tensor) -> "Probe":
        """The probe of some of the images, `rows` int64 on CPU; this one if these are all."""
        if len(rows) == len(self.sample_ids):
            return self
        ids = tuple(self.sample_ids[row] for row in rows.tolist())
        return replace(self, problem=self.problem.select(rows), sample_ids=ids)


def make_probes(
    network: nn.Module,
    dataset: SampleSource,
    sample_ids: Sequence[int],
    *,
    criterion: Criterion,
    ignore_index: int,
    batch_size: int,
) -> tuple[Probe, ...]:
    """Loads images; consecutive ones of one size form a probe of at most `batch_size`. Inside `attackable`.

    Raises:
        ValueError: no sample, a batch size below 1, or images and masks that do not fit.
        TypeError: samples of another type.
    """
    if not sample_ids:
        raise ValueError("checks need at least one image, got sample_ids=(); two are enough for most")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    device, dtype = device_of(network), precision_of(network)
    probes = []
    for group in _groups(dataset, sample_ids, batch_size):
        images = torch.stack([sample.image for sample in group]).to(device, dtype)
        masks = torch.stack([sample.mask for sample in group]).to(device)
        problem = batch_problem(images, masks, ignore_index)
        probes.append(Probe(network, problem, criterion, tuple(sample.sample_id for sample in group)))
    return tuple(probes)


def _groups(dataset: SampleSource, sample_ids: Sequence[int], batch_size: int) -> Iterator[list[LoadedSample]]:
    group: list[LoadedSample] = []
    for sample_id in sample_ids:
        sample = load_sample(dataset, sample_id)
        if group and (len(group) == batch_size or sample.image.shape != group[0].image.shape):
            yield group
            group = []
        group.append(sample)
    yield group
