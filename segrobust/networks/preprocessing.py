"""What a network does to an image in [0, 1] before its first layer, and what to do where two sources disagree on it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from segrobust.networks.network_wrapper import NetworkWrapper
from segrobust.networks.normalized import IMAGENET_MEAN, IMAGENET_STD, Normalized

_TOLERANCE = 5e-4
"""Difference of means and stds, image units, that rounding in a source explains; a tenth of a step of 8 bits."""


class NormalizationWarning(UserWarning):
    """A normalisation other than the recorded one is in force, because it was asked for."""


class BlueFirst(NetworkWrapper):
    """A network whose images have their channels blue first, as OpenCV reads them, for images with red first.

    Args:
        network: maps images `(B, 3, H, W)`, blue first, to its output, which is handed on unchanged.
    """

    def forward(self, images: Tensor) -> object:
        """Gives the output of the network for images `(B, 3, H, W)`, red first."""
        return self.network(images.flip(1))


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """`(images - mean) / std` of images in [0, 1], and then the order of the channels.

    Attributes:
        mean: one value per channel, red, green and blue of pictures, in image units.
        std: the same, positive.
        blue_first: whether the network takes its channels in the order blue, green, red.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    blue_first: bool = False

    @classmethod
    def scaled(
        cls, mean: Sequence[float], std: Sequence[float], scale: float, *, blue_first: bool = False
    ) -> "Preprocessing":
        """Translates `(scale * images - mean) / std`, channels in the order of the network, as libraries state it.

        Args:
            mean: one value per channel, in units of the scaled images.
            std: the same.
            scale: 1 for a network of images in [0, 1], 255 for one of images in 0..255.
            blue_first: whether the network, and so `mean` and `std`, have blue first.
        """
        in_image_units = [tuple(float(value) / scale for value in values) for values in (mean, std)]
        mean, std = (values[::-1] if blue_first else values for values in in_image_units)
        return cls(mean=mean, std=std, blue_first=blue_first)

    @classmethod
    def of(cls, network: nn.Module) -> "Preprocessing | None":
        """Reads the constants off the `Normalized` in a network; None where there is none, or several that differ."""
        modules = list(network.modules())
        blue_first = any(isinstance(module, BlueFirst) for module in modules)
        found = {
            cls(
                mean=tuple(round(value, 6) for value in module.mean.flatten().tolist()),
                std=tuple(round(value, 6) for value in module.std.flatten().tolist()),
                blue_first=blue_first,
            )
            for module in modules
            if isinstance(module, Normalized)
        }
        return found.pop() if len(found) == 1 else None

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Preprocessing":
        """The inverse of `to_dict`.

        Raises:
            ValueError: a missing or unknown key, or values that are no numbers.
        """
        blue_first = data.get("blue_first")
        if set(data) != {"mean", "std", "blue_first"} or not isinstance(blue_first, bool):
            raise ValueError(f"a normalisation has 'mean', 'std' and true or false as 'blue_first', got {dict(data)}")
        return cls(mean=_numbers(data["mean"]), std=_numbers(data["std"]), blue_first=blue_first)

    def to_dict(self) -> dict[str, object]:
        """Lists, numbers and a boolean only, for JSON."""
        return {"mean": list(self.mean), "std": list(self.std), "blue_first": self.blue_first}

    def around(self, network: nn.Module) -> Normalized:
        """Puts a network behind this preprocessing, so that it takes images in [0, 1], red first."""
        return Normalized(BlueFirst(network) if self.blue_first else network, self.mean, self.std)

    def agrees_with(self, other: "Preprocessing") -> bool:
        """Whether two do the same to an image, up to what rounding in a source explains."""
        mine, theirs = (*self.mean, *self.std), (*other.mean, *other.std)
        return (
            len(mine) == len(theirs)
            and self.blue_first == other.blue_first
            and all(abs(a - b) <= _TOLERANCE for a, b in zip(mine, theirs, strict=True))
        )

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"mean ({mean}) and std ({std}), {'blue' if self.blue_first else 'red'} first"


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(isinstance(number, int | float) for number in value):
        raise ValueError(f"mean and std must be lists of numbers, got {value!r}")
    return tuple(value)


def choose_preprocessing(
    recorded: Preprocessing | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    *,
    override: bool,
    source: str,
    channels: int = 3,
) -> Preprocessing:
    """Gives what a source records, or what a person states where it records nothing.

    Args:
        recorded: what the source says; None where it says nothing.
        mean: what the person says, image units; None for what is recorded.
        std: likewise.
        override: the person means it, against the record.
        source: what the source is called in messages.
        channels: of the images that the network takes; a record for another number says nothing about them.

    Raises:
        ValueError: neither says anything; only one of `mean` and `std` is given, or they have another number of values
            than there are channels; they contradict the record, and `override` is not set; or it is set and there is
            nothing to override.
    """
    if recorded is not None and len(recorded.mean) != channels:
        recorded = None
    if mean is None or std is None:
        if mean is not None or std is not None:
            raise ValueError(f"mean and std come together, got mean={mean} and std={std}")
        if override:
            raise ValueError("override_normalization=True has no effect without mean and std; leave it out")
        if recorded is None:
            imagenet = f"mean={list(IMAGENET_MEAN)}, std={list(IMAGENET_STD)} are those of ImageNet, "
            raise ValueError(
                f"{source} records no normalisation{'' if channels == 3 else f' of {channels} channels'}: give mean "
                f"and std that the network was trained with, in units of images in [0, 1]; "
                f"{imagenet if channels == 3 else ''}mean={[0] * channels}, std={[1] * channels} take images as they "
                f"are"
            )
        return recorded
    if (len(mean), len(std)) != (channels, channels):
        raise ValueError(
            f"{source} takes images of {channels} channels, got mean of {len(mean)} and std of {len(std)} values; give "
            f"one value per channel"
        )
    given = Preprocessing(mean=tuple(mean), std=tuple(std), blue_first=recorded is not None and recorded.blue_first)
    if recorded is None or given.agrees_with(recorded):
        if override:
            raise ValueError(f"override_normalization=True has no effect: {source} records nothing else; leave it out")
        return given
    conflict = f"{source} records the normalisation {recorded}; given is {given}"
    if not override:
        raise ValueError(
            f"{conflict}. Leave mean and std out to take the recorded one, or set override_normalization=True to take "
            f"yours"
        )
    warnings.warn(f"{conflict}: taken is the given one", NormalizationWarning, stacklevel=3)
    return given
