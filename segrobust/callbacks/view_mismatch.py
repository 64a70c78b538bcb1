"""What to write where a network is attacked on other images than `validation_step` gives it."""

import json
from collections.abc import Sequence
from typing import TypeAlias

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from segrobust.callbacks.access import Entry, NetworkPlace, describe_place
from segrobust.callbacks.call_comparison import SAME_IMAGES, same
from segrobust.callbacks.call_record import Call

_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_RESIDUAL = 0.01
"""Largest root mean square of what an affine map per channel leaves, in standard deviations."""

Constants: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel."""


def explain(
    trainer: Trainer,
    module: LightningModule,
    place: NetworkPlace,
    entry: Entry,
    image: Tensor,
    attacked: Call,
    validated: Sequence[Call],
) -> str:
    """The message: what differs, why, and the line that makes both the same.

    Args:
        trainer: has the data module.
        module: the LightningModule.
        place: of the network in it.
        entry: of the image in a sample.
        image: `(1, C, H, W)` as it is attacked.
        attacked: the call of the network for it.
        validated: all that `validation_step` called for the same sample.
    """
    named = f"network={describe_place(place)!r}"
    pairs = ((mine, [call for call in validated if call.module is mine.module]) for mine in attacked.walk())
    met = next(((mine, answers) for mine, answers in pairs if answers and mine.images is not None), None)
    sure = "or set compare_with_validation=False if it is meant to be attacked as it is"
    if met is None:
        other = _other_network(module, image, validated)
        write = f"write {_line(module, other)}" if other else "let it call the module that network= gives"
        return f"{named} is not called by {step_of(trainer, module)}: {write}, {sure}"
    mine, answers = met
    theirs = next((call for call in answers if call.images is not None), None)
    where = f"{step_of(trainer, module)} gives {name_in(module, mine.module)!r}"
    if theirs is None or theirs.images is None:
        return f"{where} no tensor of images (B, C, H, W), which {named} does; {sure}"
    change = _changed_by(trainer, module)
    given = theirs.images[:1]
    if given.shape[1:] != image.shape[1:]:
        return (
            f"{where} images of {_size(given)}, but what is attacked is of {_size(image)}{change}. Give image= and "
            "mask= functions of the sample that return them as they are validated, or wrap the network in a function "
            "(segrobust.networks.SlidingWindow for windows, FullResolution for other sizes of logits)"
        )
    if mine.images is not None and same(mine.images, given, SAME_IMAGES):
        return _unequal_outputs(where, named, sure)
    differs = _normalised(module, named, attacked, mine, entry, image, given, change)
    if differs is not None:
        return f"{where} images {differs}"
    return (
        f"{where} other images than {named} is attacked on{change}: {_range(given)}, and attacked are "
        f"{_range(image)}; no mean and std per channel explains it. Do what is done to batches in the data set, or "
        f"by image= as a function of the sample; {sure}"
    )


def explain_turned(trainer: Trainer, module: LightningModule, place: NetworkPlace, turned: Call) -> str:
    """The message where a call around that of the network gives other classes than the network's logits."""
    named = name_in(module, turned.module)
    return (
        f"{step_of(trainer, module)} gets other classes from {named!r} than network={describe_place(place)!r} gives: "
        f"something changes the logits after the network. Write {_line(module, turned.module)}, or "
        "set compare_with_validation=False if the network is meant to be attacked alone"
    )


def explain_masks(trainer: Trainer, module: LightningModule) -> str:
    """The message where hooks change the masks of a batch."""
    return (
        f"{step_of(trainer, module)} gets other masks than mask= gives{_changed_by(trainer, module)}. Give mask= a "
        "function of the sample that returns them as they are validated"
    )


def explain_random_images(dataset: object) -> str:
    """The message where a data set gives another image whenever it is read."""
    return (
        f"{type(dataset).__name__} gives another image whenever the same sample is read, so that other images would be "
        "attacked than validated: take augmentations out of the validation data, or give data= without them"
    )


def find_constants(image: Tensor, given: Tensor) -> Constants | None:
    """Mean and std with `given = (image - mean) / std` per channel, rounded as far as they explain it; None if none do.

    Args:
        image: `(1, C, H, W)` in [0, 1].
        given: the same shape.

    Example:
        >>> image = torch.rand(1, 3, 8, 8)
        >>> find_constants(image, (image - 0.45) / 0.225)
        ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
    """
    x, y = (tensor[0].double().cpu().flatten(1) for tensor in (image, given))
    spread = x.var(1, correction=0)
    if not y.isfinite().all() or (spread < 1e-12).any():
        return None
    centred = x - x.mean(1, keepdim=True)
    slope = (centred * (y - y.mean(1, keepdim=True))).mean(1) / spread
    if (slope <= 0).any():
        return None
    std = 1 / slope
    mean = x.mean(1) - std * y.mean(1)
    if _residual(x, y, mean, std) > _RESIDUAL:
        return None
    return next(
        (
            rounded
            for digits in range(2, 8)
            if _residual(x, y, *map(torch.tensor, rounded := _rounded(mean, std, digits))) < 1e-5
        ),
        _rounded(mean, std, 5),
    )


def _rounded(mean: Tensor, std: Tensor, digits: int) -> Constants:
    """Constants with some significant digits; means that are nearly 0 are 0."""
    means = (0.0 if abs(value) < 1e-6 else float(f"{value:.{digits}g}") for value in mean.tolist())
    return tuple(means), tuple(float(f"{value:.{digits}g}") for value in std.tolist())


def _residual(x: Tensor, y: Tensor, mean: Tensor, std: Tensor) -> float:
    """What constants leave unexplained, in standard deviations of the channel with most of it."""
    left = (y - (x - mean.double()[:, None]) / std.double()[:, None]).square().mean(1).sqrt()
    return float((left / y.std(1, correction=0)).max())


def _normalised(
    module: LightningModule,
    named: str,
    attacked: Call,
    mine: Call,
    entry: Entry,
    image: Tensor,
    given: Tensor,
    change: str,
) -> str | None:
    """How images differ by constants per channel, or by the order of channels, with the line; None for others."""
    constants = find_constants(image, given)
    turned = None if constants is not None else find_constants(image.flip(1), given)
    found = constants or turned
    if found is None:
        return None
    mean, std = found
    text, lines, path = [], [], _path(module, mine.module)
    normalized = any(mean) or {*std} != {1.0}
    inside = f"Normalized({path}, mean={mean}, std={std})" if normalized else path
    if normalized:
        text.append(f"as (image - mean) / std, mean={mean}, std={std}")
    elif turned is None:
        text.append("as they are in the sample")
    kept = mine is not attacked and mine.images is not None and same(mine.images, image, SAME_IMAGES)
    if kept and normalized:  # a wrapper that leaves images as they are stays around it
        lines.append(f"{inside} in the place of {path} in network=")
    elif normalized or turned is None:
        lines.append(f"network=lambda module: {inside}")
    if turned is not None:
        text.append("with the channels in the opposite order")
        place = f"sample[{json.dumps(entry)}]" if isinstance(entry, str | int) else "(what image= gives now)"
        lines.append(f"image=lambda sample: {place}.flip(0)")
    differs = f"{' and '.join(text)}, which {named} does not get so{change}"
    if not all(0 <= value <= 1 for value in mean):
        return f"{differs}. Attacked images have to lie in [0, 1]: scale them by image= as a function of the sample"
    source = " (from segrobust.networks)" if normalized else ""
    return f"{differs}. Write {' and '.join(lines)}{source}"


def _unequal_outputs(where: str, named: str, sure: str) -> str:
    """The message for equal images and other logits."""
    return (
        f"{where} the same images as {named}, but gets other logits: by other arguments of the call, by other weights "
        "that are swapped in for the step, or by a module in training mode. Wrap the network in a function that calls "
        f"it as the step does, {sure}"
    )


def step_of(trainer: Trainer, module: LightningModule) -> str:
    """The step and its LightningModule, for messages."""
    return f"{'test_step' if trainer.testing else 'validation_step'} of {type(module).__name__}"


def _changed_by(trainer: Trainer, module: LightningModule) -> str:
    """The hooks that change batches, in brackets; empty if the project has none."""
    datamodule: LightningDataModule | None = getattr(trainer, "datamodule", None)
    found = [
        f"{type(owner).__name__}.{hook}"
        for owner, parent in ((module, LightningModule), (datamodule, LightningDataModule))
        for hook in _HOOKS
        if owner is not None and is_overridden(hook, owner, parent=parent)
    ]
    return f" ({', '.join(found)} may be where)" if found else ""


def _other_network(module: LightningModule, image: Tensor, validated: Sequence[Call]) -> nn.Module | None:
    """What gets the image in the validation: a part of the LightningModule, or itself if it changes the image first."""
    takers = [call.module for call in validated if call.images is not None and same(image, call.images, SAME_IMAGES)]
    return next((taker for taker in takers if taker is not module), takers[0] if takers else None)


def name_in(module: LightningModule, network: nn.Module) -> str:
    """Path of a module in the LightningModule, else its class."""
    return next((name for name, part in module.named_modules() if part is network), "") or type(network).__name__


def _line(module: LightningModule, network: nn.Module) -> str:
    """The argument that names a module."""
    return f"network=lambda module: {_path(module, network)}"


def _path(module: LightningModule, network: nn.Module) -> str:
    """A module as an expression of the LightningModule `module`."""
    path = next((name for name, part in module.named_modules() if part is network), None)
    if path is None:
        return "network"
    if all(part.isidentifier() for part in path.split(".")):
        return f"module.{path}"
    return f"module.get_submodule({path!r})" if path else "module"


def _size(images: Tensor) -> str:
    channels, height, width = images.shape[1:]
    return f"{channels} channels and {height} x {width} pixels"


def _range(images: Tensor) -> str:
    return f"values {images.min():.3g} to {images.max():.3g} of mean {images.mean():.3g}"
