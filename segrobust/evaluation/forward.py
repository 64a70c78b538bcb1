"""What is needed to show a batch to a network: the problem of its images, device and precision."""

import torch
from torch import Tensor, nn

from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.attacks.core.problem import Problem, make_problem
from segrobust.attacks.targets import TargetMaps
from segrobust.functional.modes import attackable


def batch_problem(images: Tensor, masks: Tensor, ignore_index: int, target_maps: TargetMaps | None = None) -> Problem:
    """A batch that is not under attack yet, checked, its valid pixels told apart. To be called inside `attackable`.

    Args:
        images: `(B, C, H, W)` in [0, 1].
        masks: `(B, H, W)` int64.
        ignore_index: label of void pixels.
        target_maps: what pixels are to become, for criteria that ask.

    Raises:
        ValueError: images outside [0, 1], or shapes that do not match.
    """
    targets, keep_mask = (None, None) if target_maps is None else (target_maps.targets, target_maps.keep_mask)
    return make_problem(images, masks, ignore_index=ignore_index, norm="linf", targets=targets, keep_mask=keep_mask)


def count_classes(network: nn.Module, image: Tensor) -> int:
    """How many classes the network tells apart, by a forward pass on one image `(C, H, W)`."""
    with attackable(network):
        images = image[None].to(device_of(network), precision_of(network))
        logits = NetworkOracle(network, images).logits(torch.zeros_like(images), differentiable=False)
        return logits.shape[1]


def device_of(network: nn.Module) -> torch.device:
    """Where the network's parameters are; the CPU if it has none."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def precision_of(network: nn.Module) -> torch.dtype:
    """The precision in which images are given to it: float64 for networks of that precision, else float32."""
    parameter = next(network.parameters(), None)
    return torch.float64 if parameter is not None and parameter.dtype == torch.float64 else torch.float32
