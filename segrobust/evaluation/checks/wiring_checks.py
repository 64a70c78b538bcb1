"""Whether network and data are connected as the network was trained, by its accuracy under the usual mistakes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from segrobust.attacks.core.attack import NAN_MESSAGE
from segrobust.evaluation.checks.check import Check, Status, make_check, unmeasured
from segrobust.evaluation.dataset import LoadedSample, SampleSource, load_sample
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.evaluation.signs import give_sign
from segrobust.functional.modes import attackable
from segrobust.inputs import require_network
from segrobust.networks import Normalized
from segrobust.networks.normalized import IMAGENET_MEAN, IMAGENET_STD

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

Constants = tuple[float, ...]


@dataclass(frozen=True)
class _Input:
    """What the network gets: the image in an order of the colours, minus `mean`, over `std`.

    Attributes:
        name: for the message; empty for images in [0, 1] as they are.
        mean: one value per channel of the network.
        std: one value per channel of the network.
        bgr: whether the order of the colours is reversed.
        undo: what to remove, if the network seems to do twice what is right once.
    """

    name: str
    mean: Constants = (0.0, 0.0, 0.0)
    std: Constants = (1.0, 1.0, 1.0)
    bgr: bool = False
    undo: str = ""

    @property
    def scaled(self) -> bool:
        return any(self.mean) or any(value != 1 for value in self.std)

    def __call__(self, images: Tensor) -> Tensor:
        images = images.flip(1) if self.bgr else images
        if not self.scaled:
            return images
        return (images - images.new_tensor(self.mean)[:, None, None]) / images.new_tensor(self.std)[:, None, None]


_SCALES: Final = (
    _Input("0..255 input", std=(1 / 255,) * 3),
    _Input("input normalised by ImageNet's mean and std", IMAGENET_MEAN, IMAGENET_STD),
    _Input("-1..1 input", (0.5,) * 3, (0.5,) * 3),
    _Input("0..255 input minus ImageNet's mean", IMAGENET_MEAN, (1 / 255,) * 3),
    _Input("input not multiplied by 255", std=(255.0,) * 3, undo="the multiplication by 255"),
    _Input(
        "input normalised once by ImageNet's mean and std, not twice",
        tuple(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
        tuple(1 / std for std in IMAGENET_STD),
        undo="one of the two normalisations",
    ),
    _Input("input scaled to -1..1 once, not twice", (-1.0,) * 3, (2.0,) * 3, undo="one of the two scalings to -1..1"),
)
"""What is tried besides images in [0, 1] as they are."""


_SHIFTS: Final = {"classes that begin one channel later": 1, "classes that begin one channel earlier": -1}
_TURNS: Final = {"masks mirrored": (1,), "masks upside down": (0,), "masks rotated by 180 degrees": (0, 1)}
_MOVES: Final = (-8, -4, -2, 2, 4, 8)
"""Pixels down and right: half of the usual output strides, by which logits aligned by their corners are off."""


@dataclass(frozen=True)
class _Wiring:
    """One way to connect network and data, and how well it does.

    Attributes:
        input: what the network gets.
        output: what its channels mean, or how the mask lies; empty for as it is.
        channels: channel of every class, if `output` is another order of the classes.
        accuracy: of all pixels.
        by_image: accuracy of every image.
        miou: over the classes that occur.
    """

    input: _Input
    output: str
    channels: tuple[int, ...]
    accuracy: float
    by_image: tuple[float, ...]
    miou: float

    @property
    def num_changes(self) -> int:
        return self.input.bgr + self.input.scaled + bool(self.output)

    @property
    def name(self) -> str:
        parts = ["BGR input"] if self.input.bgr else []
        parts += [self.input.name] if self.input.scaled else []
        return " and ".join([*parts, *([self.output] if self.output else [])])


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
    """Whether other colours, another scale of the input, order of classes, place or orientation does far better.

    The right wiring is the one of the highest clean accuracy. Each image costs 9 to 14 forwards if the network is
    accurate, and about 30 otherwise. Warns if the mIoU rises by more than 5 points. Fails if it rises by more than 15
    points, to at least 1.5 times as much, on every image, with a wiring that is half way from predicting the most
    common class to no error; with fewer than four classes it only warns.

    Args:
        network: maps images in [0, 1] to logits `(B, K, H, W)`; it is not moved.
        dataset: see `SampleSource`.
        sample_ids: positions of the images; four are enough.
        ignore_index: label of void pixels.

    Returns:
        The check "wiring".
    """
    require_network(network, by_gradients=False)
    samples = [load_sample(dataset, sample_id) for sample_id in sample_ids]
    samples = [sample for sample in samples if bool((sample.mask != ignore_index).any())]
    if not samples:
        return unmeasured("wiring", "none of the images has a valid pixel", fix="choose images with labels")
    if any(len(sample.image) != 3 for sample in samples):
        return make_check("wiring", "ok", "not measured: the images do not have three channels", meaning="", fix="")
    device = device_of(network)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), attackable(network), torch.no_grad():
        trial = _Trial(network, samples, ignore_index)
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
        fix=_advise(network, best),
    )


def _judge(now: _Wiring, best: _Wiring, skill: float, num_classes: int) -> Status:
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

    def __init__(self, network: nn.Module, samples: Sequence[LoadedSample], ignore_index: int) -> None:
        self._network = network
        self._images = [sample.image.to(device_of(network), precision_of(network))[None] for sample in samples]
        self._truths = [_truth(sample.mask, ignore_index) for sample in samples]
        counts = torch.cat([truth.labels[truth.labels >= 0] for truth in self._truths]).bincount().double()
        self.common = float(counts.max() / counts.sum())
        self.num_classes = int((counts >= _RARE * counts.sum()).sum())

    def run(self) -> list[_Wiring]:
        """All wirings; the first is the one in use."""
        given = _Input("")
        scales = (*_SCALES, *_in_place_of(self._network))
        tried = list(self._of(given))
        for scale in scales:
            tried += self._of(scale)
        best = max(tried, key=lambda wiring: wiring.accuracy)
        settled = best is tried[0] and self.skill(best) >= _SKILL[1]  # a good network: its colours alone may be wrong
        for kept in (given,) if settled else (given, *scales):
            tried += self._of(replace(kept, bgr=True))
            if kept.mean != kept.mean[::-1]:  # the constants may be in the order of the network
                tried += self._of(replace(kept, mean=kept.mean[::-1], std=kept.std[::-1], bgr=True))
        return tried

    def skill(self, wiring: _Wiring) -> float:
        """Accuracy from 0, that of the most common class, to 1."""
        return (wiring.accuracy - self.common) / max(1 - self.common, 1e-9)

    def _logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self._network(image)[0]
        give_sign()
        return logits

    def _of(self, changed: _Input) -> Iterator[_Wiring]:
        """Wirings with one input. None if the network refuses it."""
        try:
            logits = [self._logits(changed(image.clone())) for image in self._images]
        except (ValueError, RuntimeError, AssertionError):
            if changed.name or changed.bgr:
                return
            raise
        if not all(each.isfinite().any() for each in logits):
            if changed.name or changed.bgr:
                return
            raise FloatingPointError(NAN_MESSAGE)
        num_classes = logits[0].shape[0]
        thinned = [truth.thin(each.permute(1, 2, 0)) for truth, each in zip(self._truths, logits, strict=True)]
        top = [each.argmax(-1).cpu() for each in thinned]
        yield self._score(changed, "", (), top, num_classes)
        for name, shift in _SHIFTS.items():
            channels = tuple((c + shift) % num_classes for c in range(num_classes))
            yield self._score(changed, name, channels, [(each - shift) % num_classes for each in top], num_classes)
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
        if not changed.scaled and not changed.bgr:
            for move in _MOVES:
                moved = [_moved(each, truth.step, move) for each, truth in zip(top, self._truths, strict=True)]
                yield self._score(changed, f"logits moved by {move} pixels down and right", (), moved, num_classes)

    def _score(
        self, changed: _Input, output: str, channels: tuple[int, ...], predictions: Sequence[Tensor], num_classes: int
    ) -> _Wiring:
        """Compares predictions with the labels. Predictions are turned in the place of masks, which are the same."""
        confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        by_image = []
        for prediction, truth in zip(predictions, self._truths, strict=True):
            valid = (truth.labels >= 0) & (truth.labels < num_classes)
            pairs = truth.labels[valid] * num_classes + prediction[valid]
            counts = pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)
            by_image.append(float(counts.diag().sum() / counts.sum().clamp_min(1)))
            confusion += counts
        right, present = confusion.diag().double(), confusion.sum(1) > 0
        iou = right / (confusion.sum(0) + confusion.sum(1) - right)
        accuracy = float(right.sum() / confusion.sum().clamp_min(1))
        return _Wiring(changed, output, channels, accuracy, tuple(by_image), float(iou[present].mean()))


def _moved(prediction: Tensor, step: int, move: int) -> Tensor:
    """A prediction on a grid, moved down and right by some pixels; its edges are repeated."""
    cells = round(move / step) or (1 if move > 0 else -1)
    rows, columns = ((torch.arange(size) - cells).clamp(0, size - 1) for size in prediction.shape)
    return prediction[rows][:, columns]


def _in_place_of(network: nn.Module) -> Iterator[_Input]:
    """Inputs that have, with the `Normalized` inside the network, the effect of other constants in its place."""
    inside = _normalized(network)
    if inside is None or len(inside.mean) != 3:
        return
    mean, std = (buffer.flatten().double().cpu().tolist() for buffer in (inside.mean, inside.std))
    for target in _SCALES[:3]:
        factors = tuple(new / old for new, old in zip(target.std, std, strict=True))
        offsets = tuple(new - b * old for new, b, old in zip(target.mean, factors, mean, strict=True))
        changed = replace(target, mean=offsets, std=factors)
        if not _is_nothing(offsets, factors):
            yield changed


def _normalized(network: nn.Module) -> Normalized | None:
    return next((module for module in network.modules() if isinstance(module, Normalized)), None)


def _truth(mask: Tensor, ignore_index: int) -> _Truth:
    step = max(1, round((mask.numel() / _PIXELS) ** 0.5))
    labels = mask.cpu().masked_fill(mask.cpu() == ignore_index, -1)
    return _Truth(labels[::step, ::step], step)


def _advise(network: nn.Module, best: _Wiring) -> str:
    """The line to write for a wiring."""
    if best.output.startswith("logits"):
        where = "the logits lie beside the objects: upsample them inside the network as in its training, with the same "
        line = where + "align_corners= and without a padding at the top or left"
        return line if best.num_changes == 1 else f"{line}; and {_advise_network(network, best)}"
    if best.output.startswith("masks"):
        turned = {
            "masks mirrored": "mask.flip(-1)",
            "masks upside down": "mask.flip(-2)",
            "masks rotated by 180 degrees": "mask.flip(-1, -2)",
            "masks transposed": "mask.T",
        }[best.output]
        line = f"make the data set return {turned} in place of mask, or turn the image, whichever of the two is wrong"
        return line if best.num_changes == 1 else f"{line}; and {_advise_network(network, best)}"
    return _advise_network(network, best)


def _advise_network(network: nn.Module, best: _Wiring) -> str:
    line, imports, remark = "network", [], ""
    if best.input.scaled:
        inside, mean, std = _normalized(network), best.input.mean, best.input.std
        if inside is not None:
            mean, std = _combined(inside, best.input)
        if inside is not None and _is_nothing(mean, std):
            remark = "leave out Normalized, because the network normalises its input already; "
            line = "network.network" if inside is network else "network"
        elif min(mean) < 0 or max(mean) > 1 or best.input.undo:
            remark = f"remove {best.input.undo or 'one of the two normalisations'} in front of the network; "
        elif inside is not None and inside is not network:
            remark = f"give the Normalized inside the network mean={_shown(mean)}, std={_shown(std)}; "
        else:
            inner = "network" if inside is None else "network.network"
            line, imports = f"Normalized({inner}, mean={_shown(mean)}, std={_shown(std)})", ["Normalized"]
    if best.input.bgr:
        line, imports = f"ColorOrder({line}, order=(2, 1, 0))", [*imports, "ColorOrder"]
    if best.channels:
        line, imports = f"ClassOrder({line}, channels={_short(best.channels)})", [*imports, "ClassOrder"]
    if not imports:
        return (remark + (f"attack {line}" if line != "network" else "")).removesuffix("; ")
    source = f" (from segrobust.networks import {', '.join(sorted(imports))})"
    return f"{remark}wrap the network: network = {line}{source}"


def _combined(inside: Normalized, changed: _Input) -> tuple[Constants, Constants]:
    """Constants of one normalisation that does what a change of the input and the normalisation inside do."""
    mean, std = (buffer.flatten().double().cpu().tolist() for buffer in (inside.mean, inside.std))
    return (
        tuple(a + b * m for a, b, m in zip(changed.mean, changed.std, mean, strict=True)),
        tuple(b * s for b, s in zip(changed.std, std, strict=True)),
    )


def _is_nothing(mean: Constants, std: Constants) -> bool:
    return all(abs(m) < 1e-3 for m in mean) and all(abs(s - 1) < 1e-3 for s in std)


def _shown(values: Constants) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"


def _short(channels: tuple[int, ...]) -> str:
    """The channels as Python reads them, long runs as ranges."""
    if len(channels) < 8:
        return str(channels)
    first = channels[0]
    if channels == tuple(range(first, first + len(channels))):
        return f"range({first}, {first + len(channels)})"
    if channels[:-1] == tuple(range(first, first + len(channels) - 1)):
        return f"(*range({first}, {first + len(channels) - 1}), {channels[-1]})"
    if channels[1:] == tuple(range(channels[1], channels[1] + len(channels) - 1)):
        return f"({first}, *range({channels[1]}, {channels[1] + len(channels) - 1}))"
    return str(channels)
