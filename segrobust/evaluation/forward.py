"""One forward pass over a batch, judged as attacks judge theirs."""

import torch
from torch import Tensor, nn

from segrobust.attacks import AttackResult, Criterion
from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.attacks.core.problem import Problem, check_classes, make_problem
from segrobust.attacks.targets import TargetMaps
from segrobust.functional.norms import NormName, norm


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


def judge(
    network: nn.Module, problem: Problem, delta: Tensor, criterion: Criterion, norm_name: NormName
) -> tuple[AttackResult, int]:
    """What a perturbation `(B, C, H, W)` does, by one forward pass. To be called inside `attackable`.

    Returns:
        The result, and the number of classes K.

    Raises:
        ValueError: labels that the network does not know, or an output that is not `(B, K, H, W)`.
        TypeError: an output that is no tensor.
        FloatingPointError: the network returned NaN.
    """
    oracle = NetworkOracle(network, problem.images)
    logits = oracle.logits(delta, differentiable=False)
    check_classes(problem, logits.shape[1])
    if logits.isnan().any():
        raise FloatingPointError("the network returned NaN: check its weights, normalisation layers and precision")
    broken = criterion.broken(logits, problem)
    _, success = criterion.outcome(broken, problem)
    apsr, kept_share = criterion.shares(broken, problem)
    result = AttackResult(
        adv=problem.images + delta,
        success=success,
        norm=norm(delta, norm_name),
        apsr=apsr,
        kept_share=kept_share,
        prediction=logits.argmax(1),
        first_success=torch.where(success, 0, -1),
        num_forwards=oracle.counter.forwards,
        num_backwards=oracle.counter.backwards,
    )
    return result, logits.shape[1]


def device_of(network: nn.Module) -> torch.device:
    """Where the network's parameters are; the CPU if it has none."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def precision_of(network: nn.Module) -> torch.dtype:
    """The precision in which images are given to it: float64 for networks of that precision, else float32."""
    parameter = next(network.parameters(), None)
    return torch.float64 if parameter is not None and parameter.dtype == torch.float64 else torch.float32
