"""Whether network and data are connected as the network was trained, by its accuracy under the usual mistakes."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from segrobust.attacks.core.attack import NAN_MESSAGE
from segrobust.evaluation.checks.check import Check, Status, make_check, unmeasured
from segrobust.evaluation.checks.wiring_advice import Wiring, advise
from segrobust.evaluation.checks.wiring_inputs import Input, orders_of, scales_in_place_of, scales_of
from segrobust.evaluation.dataset import LoadedSample, SampleSource, load_sample, value_range_of
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.evaluation.signs import give_sign
from segrobust.functional.logits import require_class_logits
from segrobust.functional.modes import attackable
from segrobust.inputs import explain_refusals, require_network
from segrobust.value_range import ValueRange

WIRING_IMAGES: Final = 4
"""Images of the check."""

_GAINS: Final = (0.05, 0.15)
"""Rise of the mIoU by another wiring: warn, fail."""

_LEAST_RATIO: Final = 1.5
"""The mIoU of the other wiring over that of this one: fail. A good network with one weak class does not fail."""

_SKILL: Final = (0.1, 0.5)
"""Accuracy of the other wiring, from 0 for that of the most common class to 1 for no error: warn, fail. An untrained
network has no skill, whatever is tried."""

_LEAST_CLASSES: Final = 4
"""Classes that must occur for a failure: with two or three, an untrained network may be right by a permutation."""

_RARE: Final = 0.005
"""Share of the pixels below which a class does not count as occurring."""

_PER_CHANGE: Final = 0.02
"""Accuracy that a second change must add to be preferred to one."""

_PIXELS: Final = 1 << 16
"""Pixels of an image that are compared, on a grid."""

_SHIFTS: Final = {"classes that begin one channel later": 1, "classes that begin one channel earlier": -1}
_MOVED: Final = (0.5, 0.2)
"""Share of a class's pixels that another channel has at least, and its own at most, where classes are exchanged."""

_TURNS: Final = {"masks mirrored": (1,), "masks upside down": (0,), "masks rotated by 180 degrees": (0, 1)}
_MOVES: Final = (-8, -4, -2, 2, 4, 8)
"""Pixels down and right: half of the usual output strides, by which logits aligned by their corners are off."""


@dataclass(frozen=True)
class _Truth:
    """Labels of an image on a grid: `(h, w)` with -1 for void; and the step of the grid."""

    labels: Tensor
    step: int

    def thin(self, prediction: Tensor) -> Tensor:
        return prediction[:: self.step, :: self.step]


def check_wiring(
    network: nn.Module, dataset: SampleSource, sample_ids: Sequence[int], *, ignore_index: int = 255
) -> Check:
    """Whether other channels, another scale of the input, order of classes, place or orientation does far better.

    The right wiring is the one of the highest clean accuracy. Each image costs 9 to 18 forwards if the network is
    accurate, and 30 to 60 otherwise, most with four channels. Warns if the mIoU rises by more than 5 points. Fails if
    it rises by more than 15 points, to at least 1.5 times as much, on every image, with a wiring that is half way from
    predicting the most common class to no error; with fewer than four classes it only warns.

    Args:
        network: maps images in [0, 1] to logits `(B, K, H, W)`; it is not moved.
        dataset: see `SampleSource`.
        sample_ids: positions of the images; four are enough.
        ignore_index: label of void pixels.

    Returns:
        The check "wiring".

    Raises:
        TypeError: the network returns no tensor of logits.
        ValueError: logits of another shape than the masks, or of one class.
    """
    require_network(network, by_gradients=False)
    samples = [load_sample(dataset, sample_id) for sample_id in sample_ids]
    samples = [sample for sample in samples if bool((sample.mask != ignore_index).any())]
    if not samples:
        return unmeasured("wiring", "none of the images has a valid pixel", fix="choose images with labels")
    if len({len(sample.image) for sample in samples}) > 1:
        return unmeasured("wiring", "the images differ in their number of channels", fix="give all images one number")
    device = device_of(network)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), attackable(network), torch.no_grad():
        trial = _Trial(network, samples, ignore_index, value_range_of(dataset))
        tried = trial.run()
    now, best = tried[0], max(tried, key=lambda wiring: wiring.accuracy - _PER_CHANGE * wiring.num_changes)
    status = _judge(now, best, trial.skill(best), trial.num_classes)
    detail = f"on {len(samples)} clean images, the mIoU is {now.miou:.1%} and the accuracy {now.accuracy:.1%}"
    if status == "ok":
        detail += f"; none of {len(tried)} other wirings of input, classes and masks does much better"
    else:
        detail += f"; {best.name} would give mIoU {100 * best.miou:.1f} instead of {100 * now.miou:.1f}, and accuracy "
        detail += f"{best.accuracy:.1%}"
    return make_check(
        "wiring",
        status,
        detail,
        meaning="the network probably gets other images, or its classes mean something else, than in its training: "
        "all numbers are then about a network that nobody uses",
        fix=advise(network, best),
    )


def _judge(now: Wiring, best: Wiring, skill: float, num_classes: int) -> Status:
    gain = best.miou - now.miou
    if gain <= _GAINS[0] or best.accuracy - now.accuracy <= _PER_CHANGE or skill < _SKILL[0]:
        return "ok"
    everywhere = all(b > a for a, b in zip(now.by_image, best.by_image, strict=True)) and len(now.by_image) > 1
    clear = gain > _GAINS[1] and best.miou >= _LEAST_RATIO * now.miou and skill >= _SKILL[1]
    return "fail" if clear and everywhere and num_classes >= _LEAST_CLASSES else "warn"


class _Trial:
    """Tries wirings on some images.

    Attributes:
        common: share of the most common class.
        num_classes: classes that occur.
    """

    def __init__(
        self, network: nn.Module, samples: Sequence[LoadedSample], ignore_index: int, units: ValueRange | None
    ) -> None:
        self._network, self._units = network, units
        self._images = [sample.image.to(device_of(network), precision_of(network))[None] for sample in samples]
        self._truths = [_truth(sample.mask, ignore_index) for sample in samples]
        counts = torch.cat([truth.labels[truth.labels >= 0] for truth in self._truths]).bincount().double()
        self.common = float(counts.max() / counts.sum())
        self._predicted: list[tuple[Input, list[Tensor], int]] = []
        self.num_classes = int((counts >= _RARE * counts.sum()).sum())

    def run(self) -> list[Wiring]:
        """All wirings; the first is the one in use."""
        given, usual = Input(), scales_of(self._images, self._units)
        scales = (*usual, *scales_in_place_of(self._network, usual))
        tried = list(self._of(given))
        for scale in scales:
            tried += self._of(scale)
        best = max(tried, key=lambda wiring: wiring.accuracy)
        settled = best is tried[0] and self.skill(best) >= _SKILL[1]  # a good network: its order alone may be wrong
        for name, order in orders_of(self._images[0].shape[1]).items():
            for kept in (given,) if settled else (given, *scales):
                for moved in kept.reordered(name, order):
                    tried += self._of(moved)
        return [*tried, *self._exchanged()]

    def _exchanged(self) -> Iterator[Wiring]:
        """Wirings with classes in another order, last: where they do as well as others, the others are more usual."""
        for changed, top, num_classes in self._predicted:
            order = _exchanged(self._confusion(top, num_classes).sum(0))
            if order:
                places = torch.tensor(order).argsort()
                predictions = [places[each] for each in top]
                yield self._score(changed, "classes in another order", order, predictions, num_classes)

    def skill(self, wiring: Wiring) -> float:
        """Accuracy from 0, that of the most common class, to 1."""
        return (wiring.accuracy - self.common) / max(1 - self.common, 1e-9)

    def _of(self, changed: Input) -> Iterator[Wiring]:
        """Wirings with one input. None if the network refuses it."""
        try:
            logits = [self._logits(image, changed) for image in self._images]
        except (ValueError, RuntimeError, AssertionError):
            if changed.num_changes:
                return
            raise
        if not all(each.isfinite().any() for each in logits):
            if changed.num_changes:
                return
            raise FloatingPointError(NAN_MESSAGE)
        num_classes = logits[0].shape[0]
        thinned = [truth.thin(each.permute(1, 2, 0)) for truth, each in zip(self._truths, logits, strict=True)]
        top = [each.argmax(-1).cpu() for each in thinned]
        yield self._score(changed, "", (), top, num_classes)
        for name, shift in _SHIFTS.items():
            channels = tuple((c + shift) % num_classes for c in range(num_classes))
            yield self._score(changed, name, channels, [(each - shift) % num_classes for each in top], num_classes)
        self._predicted.append((changed, top, num_classes))
        if num_classes > 2:
            ends = (("channel 0 left out", slice(1, None)), (f"channel {num_classes - 1} left out", slice(-1)))
            for name, part in ends:
                kept = tuple(range(num_classes))[part]
                yield self._score(
                    changed, name, kept, [each[..., part].argmax(-1).cpu() for each in thinned], num_classes
                )
        for name, dims in _TURNS.items():
            yield self._score(changed, name, (), [each.flip(dims) for each in top], num_classes)
        if all(each.shape[0] == each.shape[1] for each in top):
            yield self._score(changed, "masks transposed", (), [each.T for each in top], num_classes)
        if not changed.num_changes:
            for move in _MOVES:
                moved = [_moved(each, truth.step, move) for each, truth in zip(top, self._truths, strict=True)]
                yield self._score(changed, f"logits moved by {move} pixels down and right", (), moved, num_classes)

    def _logits(self, image: Tensor, changed: Input) -> Tensor:
        """Logits `(K, H, W)` of an image; only for the input in use, it is worth the time to explain an error."""
        with contextlib.nullcontext() if changed.num_changes else explain_refusals(self._network, image):
            output = self._network(changed(image.clone()))
        give_sign()
        return require_class_logits(output, image)[0]

    def _confusion(self, predictions: Sequence[Tensor], num_classes: int) -> Tensor:
        """Pixels of each image by class and prediction: `(N, K, K)`."""
        counts = []
        for prediction, truth in zip(predictions, self._truths, strict=True):
            valid = (truth.labels >= 0) & (truth.labels < num_classes)
            pairs = truth.labels[valid] * num_classes + prediction[valid]
            counts.append(pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes))
        return torch.stack(counts)

    def _score(
        self, changed: Input, output: str, channels: tuple[int, ...], predictions: Sequence[Tensor], num_classes: int
    ) -> Wiring:
        """Compares predictions with the labels. Predictions are turned in the place of masks, which are the same."""
        counts = self._confusion(predictions, num_classes)
        by_image = [float(each.diag().sum() / each.sum().clamp_min(1)) for each in counts]
        confusion = counts.sum(0)
        right, present = confusion.diag().double(), confusion.sum(1) > 0
        iou = right / (confusion.sum(0) + confusion.sum(1) - right)
        accuracy = float(right.sum() / confusion.sum().clamp_min(1))
        return Wiring(changed, output, channels, accuracy, tuple(by_image), float(iou[present].mean()))


def _moved(prediction: Tensor, step: int, move: int) -> Tensor:
    """A prediction on a grid, moved down and right by some pixels; its edges are repeated."""
    cells = round(move / step) or (1 if move > 0 else -1)
    rows, columns = ((torch.arange(size) - cells).clamp(0, size - 1) for size in prediction.shape)
    return prediction[rows][:, columns]


def _truth(mask: Tensor, ignore_index: int) -> _Truth:
    step = max(1, round((mask.numel() / _PIXELS) ** 0.5))
    labels = mask.cpu().masked_fill(mask.cpu() == ignore_index, -1)
    return _Truth(labels[::step, ::step], step)


def _exchanged(confusion: Tensor) -> tuple[int, ...]:
    """The channel of each class where some classes lie in each other's channels; empty if they do not.

    At least two classes must have most of their pixels in one other channel, a different one for each: a network that
    confuses classes, or takes all for a few, has no such order. The order is then that of the highest accuracy.
    """
    shares = confusion.double() / confusion.sum(1, keepdim=True).clamp_min(1)
    largest, channel = shares.max(1)
    moved = (largest >= _MOVED[0]) & (shares.diag() <= _MOVED[1]) & (confusion.sum(1) > 0)
    if len({*channel[moved].tolist()}) < 2:
        return ()
    return tuple(map(int, linear_sum_assignment(confusion.numpy(), maximize=True)[1]))
