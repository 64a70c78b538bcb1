"""Input normalisation as part of the network, so that attacks work on images in [0, 1]."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segrobust.networks.network_wrapper import NetworkWrapper

IMAGENET_MEAN: tuple[float, ...] = (0.485, 0.456, 0.406)
IMAGENET_STD: tuple[float, ...] = (0.229, 0.224, 0.225)


class Normalized(NetworkWrapper):
    """A network that takes images in [0, 1]: `network((images - mean) / std)`, channel by channel.

    Norms and radii of attacks are in image units, so the normalisation has to be inside what is attacked.
    `mean` and `std` are settings, not weights: as buffers they follow the device, but they stay out of `state_dict`,
    so that a checkpoint cannot change them.

    Args:
        network: maps normalised images `(B, C, H, W)` to its output, which is handed on unchanged.
        mean: one value per channel, in [0, 1]; ImageNet's by default.
        std: one positive value per channel, in image units; ImageNet's by default.

    Raises:
        TypeError: `network` is not an `nn.Module`.
        ValueError: `mean` and `std` differ in length, are empty, not finite, or in units of 0 to 255; or the network
            normalises its images already.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ) -> None:
        super().__init__(network)
        _check_statistics(mean, std)
        _check_single(network, mean, std)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> object:
        """Gives the output of the network for images in [0, 1].

        Args:
            images: `(B, C, H, W)`, C the length of `mean`.

        Raises:
            ValueError: the images have another number of channels (one channel would broadcast silently).
        """
        if images.ndim != 4 or images.shape[1] != self.mean.shape[0]:
            raise ValueError(
                f"images have the shape {tuple(images.shape)}, expected (B, {self.mean.shape[0]}, H, W), the channels "
                f"of the network: give it images of its channels, or give `mean` and `std` one value per channel"
            )
        return self.network((images - self.mean) / self.std)

    def extra_repr(self) -> str:
        """Shows the constants beside the network in `repr`."""
        mean, std = (", ".join(f"{value:g}" for value in buffer.flatten().tolist()) for buffer in (self.mean, self.std))
        return f"mean=({mean}), std=({std})"


def _check_statistics(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises ValueError unless both are as long as each other, finite and in units of images in [0, 1]."""
    if len(mean) != len(std) or len(mean) == 0:
        raise ValueError(f"mean and std need one value per channel each, got {len(mean)} and {len(std)} values")
    if not all(math.isfinite(value) for value in (*mean, *std)):
        raise ValueError(f"mean and std must be finite, got mean={tuple(mean)}, std={tuple(std)}")
    if not all(value > 0 for value in std):
        raise ValueError(f"std must be positive in every channel, got {tuple(std)}")
    if not all(0 <= value <= 1 for value in mean):
        raise ValueError(f"mean is in units of images in [0, 1], got {tuple(mean)}; divide mean and std by 255?")


def _check_single(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises ValueError if the network normalises its images already, as networks of libraries here do."""
    inner = next((module for module in network.modules() if isinstance(module, Normalized)), None)
    if inner is not None:
        raise ValueError(
            f"the network normalises its images already, by {inner.extra_repr()}; a second time, by mean="
            f"{tuple(mean)}, std={tuple(std)}, would give it other images than it was trained on. Leave this "
            f"Normalized out; where the inner constants are wrong, change them there (mean, std and "
            f"override_normalization of networks of libraries)"
        )
