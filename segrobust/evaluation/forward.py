"""What a forward pass of a batch needs: the problem of its images, the device and the precision."""

import torch
from torch import Tensor, nn

from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.attacks.core.problem import Problem, make_problem
from segrobust.attacks.targets import TargetMaps
from segrobust.functional.modes import attackable


def batch_problem(images: Tensor, masks: Tensor, ignore_index: int, target_maps: TargetMaps | None = None) -> Problem:
    """A checked batch with its valid pixels, before any attack. To be called inside `attackable`.

    Args:
        images: `(B, C, H, W)` in [0, 1].
        masks: `(B, H, W)` int64.
        ignore_index: label of void pixels.
        target_maps: target classes of the pixels, for criteria that need them.

    Raises:
        ValueError: images outside [0, 1], or shapes that do not match.
    """
    targets, keep_mask = (None, None) if target_maps is None else (target_maps.targets, target_maps.keep_mask)
    return make_problem(images, masks, ignore_index=ignore_index, norm="linf", targets=targets, keep_mask=keep_mask)


def count_classes(network: nn.Module, image: Tensor) -> int:
    """The number of classes that the network predicts, by a forward pass on one image `(C, H, W)`."""
    with attackable(network):
        images = image[None].to(device_of(network), precision_of(network))
        logits = NetworkOracle(network, images).logits(torch.zeros_like(images), differentiable=False)
        return logits.shape[1]


def device_of(network: nn.Module) -> torch.device:
    """Where the network's parameters are; the CPU if it has none."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def precision_of(network: nn.Module) -> torch.dtype:
    """The precision of the images that it gets: float64 for networks in float64, else float32."""
    parameter = next(network.parameters(), None)
    return torch.float64 if parameter is not None and parameter.dtype == torch.float64 else torch.float32
