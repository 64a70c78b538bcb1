"""What a network may have been trained to get in place of images in [0, 1]: other scales, other orders of channels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from segrobust.networks import Normalized
from segrobust.networks.normalized import IMAGENET_MEAN, IMAGENET_STD
from segrobust.value_range import ValueRange

Constants = tuple[float, ...]

_REFLECTANCE: Final = 10000.0
"""Value of full reflectance in the products of Sentinel-2 and others."""

_RGB: Final = 3
_WITH_INFRARED: Final = 4


@dataclass(frozen=True)
class Input:
    """What the network gets: the image in an order of its channels, minus `mean`, over `std`.

    Attributes:
        name: of the scale, for the message; empty for images in [0, 1] as they are.
        mean: one value per channel of the network; empty for 0.
        std: one value per channel of the network; empty for 1.
        order: for every channel of the network, the channel of the image; empty for the same.
        order_name: for the message.
        remedy: what to do, where no normalisation in front of the network can.
        of_channels: whether the constants belong to the channels of the image, and follow their order.
    """

    name: str = ""
    mean: Constants = ()
    std: Constants = ()
    order: tuple[int, ...] = ()
    order_name: str = ""
    remedy: str = ""
    of_channels: bool = False

    @property
    def scaled(self) -> bool:
        """Whether values change."""
        return any(self.mean) or any(value != 1 for value in self.std)

    @property
    def num_changes(self) -> int:
        """Changes of values and order."""
        return self.scaled + bool(self.order)

    def __call__(self, images: Tensor) -> Tensor:
        """What the network gets for images `(B, C, H, W)`."""
        images = images[:, list(self.order)] if self.order else images
        if not self.scaled:
            return images
        return (images - images.new_tensor(self.mean)[:, None, None]) / images.new_tensor(self.std)[:, None, None]

    def reordered(self, name: str, order: tuple[int, ...]) -> Iterator["Input"]:
        """The same scale in another order; constants of a network may be in its order or in that of the image."""
        moved = replace(self, order=order, order_name=name)
        following = replace(moved, mean=_permuted(self.mean, order), std=_permuted(self.std, order))
        if not self.of_channels:
            yield moved
        if self.of_channels or following != moved:
            yield following


def _permuted(values: Constants, order: tuple[int, ...]) -> Constants:
    return tuple(values[channel] for channel in order) if values else ()


def orders_of(num_channels: int) -> Mapping[str, tuple[int, ...]]:
    """Orders of channels that are usual besides that of the image: BGR, and infrared before or after the colours."""
    same = tuple(range(num_channels))
    if num_channels == _RGB:
        return {"BGR input": same[::-1]}
    orders = {"the first three channels reversed": same[2::-1] + same[3:]} if num_channels > _RGB else {}
    orders |= {"all channels reversed": same[::-1]} if num_channels > 1 else {}
    if num_channels == _WITH_INFRARED:
        orders |= {"the last channel first": same[-1:] + same[:-1], "the first channel last": same[1:] + same[:1]}
    return orders


def scales_of(images: Sequence[Tensor], units: ValueRange | None) -> tuple[Input, ...]:
    """Scales that are usual besides [0, 1].

    Args:
        images: `(1, C, H, W)` each.
        units: what 0 and 1 are in the sensor's units; None for pictures of 8 bits.
    """
    channels = images[0].shape[1]
    scales = [*_of_bytes(channels), *_twice(channels)]
    if channels == _RGB:
        scales += _IMAGENET
    if channels != _RGB or units is not None:
        scales += [_standardised(images), *_of_sensor(channels, units)]
    return tuple(scale for scale in scales if scale.scaled)


def _of_bytes(channels: int) -> tuple[Input, ...]:
    return (
        Input("0..255 input", (0.0,) * channels, (1 / 255,) * channels),
        Input("-1..1 input", (0.5,) * channels, (0.5,) * channels),
    )


def _twice(channels: int) -> tuple[Input, ...]:
    """What is right if the network does itself what is done before it too."""
    return (
        Input(
            "input not multiplied by 255",
            (0.0,) * channels,
            (255.0,) * channels,
            remedy="remove the multiplication by 255 in front of the network",
        ),
        Input(
            "input scaled to -1..1 once, not twice",
            (-1.0,) * channels,
            (2.0,) * channels,
            remedy="remove one of the two scalings to -1..1 in front of the network",
        ),
    )


_IMAGENET: Final = (
    Input("input normalised by ImageNet's mean and std", IMAGENET_MEAN, IMAGENET_STD),
    Input("0..255 input minus ImageNet's mean", IMAGENET_MEAN, (1 / 255,) * 3),
    Input(
        "input normalised once by ImageNet's mean and std, not twice",
        tuple(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
        tuple(1 / std for std in IMAGENET_STD),
        remedy="remove one of the two normalisations in front of the network",
    ),
)


def _standardised(images: Sequence[Tensor]) -> Input:
    """Every channel minus its mean over its standard deviation, as measured on these images."""
    pixels = torch.cat([image[0].flatten(1).double() for image in images], 1)
    mean, std = pixels.mean(1).clamp(0, 1), pixels.std(1).clamp_min(1e-3)
    name = "input standardised by the mean and std of these images"
    return Input(name, tuple(mean.tolist()), tuple(std.tolist()), of_channels=True)


def _of_sensor(channels: int, units: ValueRange | None) -> Iterator[Input]:
    """The sensor's own values, and shares of one range for all channels."""
    zero = (0.0,) * channels
    if units is None or len(units.limits) not in (1, channels):
        yield Input("0..10000 input", zero, (1 / _REFLECTANCE,) * channels)
        return
    limits = units.limits * channels if len(units.limits) == 1 else units.limits
    low, width = ([pair[0] for pair in limits], [pair[1] - pair[0] for pair in limits])
    mean, std = (tuple(-a / b for a, b in zip(low, width, strict=True)), tuple(1 / each for each in width))
    expressible = min(mean) >= 0 and max(mean) <= 1
    remedy = "" if expressible else f"call the network with low + (high - low) * images in a module, for {units}"
    yield Input("input in the sensor's units", mean, std, remedy=remedy, of_channels=True)
    for divisor in {max(width), _REFLECTANCE} if not any(low) and max(width) > 255 else ():
        shares = tuple(divisor / each for each in width)
        yield Input(f"input in the sensor's units over {divisor:g}", zero, shares, of_channels=True)


def scales_in_place_of(network: nn.Module, scales: Sequence[Input]) -> Iterator[Input]:
    """Inputs that have, with the `Normalized` inside the network, the effect of other constants in its place."""
    inside = normalized_inside(network)
    if inside is None:
        return
    mean, std = (buffer.flatten().double().cpu().tolist() for buffer in (inside.mean, inside.std))
    for target in scales:
        if target.remedy or len(target.mean) != len(mean):
            continue
        factors = tuple(new / old for new, old in zip(target.std, std, strict=True))
        offsets = tuple(new - b * old for new, b, old in zip(target.mean, factors, mean, strict=True))
        if not is_nothing(offsets, factors):
            yield replace(target, mean=offsets, std=factors)


def normalized_inside(network: nn.Module) -> Normalized | None:
    """The first `Normalized` of a network."""
    return next((module for module in network.modules() if isinstance(module, Normalized)), None)


def is_nothing(mean: Constants, std: Constants) -> bool:
    """Whether a normalisation leaves images as they are."""
    return all(abs(m) < 1e-3 for m in mean) and all(abs(s - 1) < 1e-3 for s in std)
