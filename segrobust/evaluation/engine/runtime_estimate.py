"""Upper bound on the time of an evaluation, from one measured pass."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.evaluation.forward import batch_problem
from segrobust.evaluation.plan import AttackCall, Plan
from segrobust.functional.modes import attackable


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Time of an evaluation: an upper bound, apart from measurement noise, because finished images leave early.

    Attributes:
        seconds: in all, for this process.
        seconds_by_job: per job, in the order of the plan; nan if the number of passes of an attack is not known.
        forward_seconds: one measured forward pass, per image.
        backward_seconds: one measured backward pass, per image.
    """

    seconds: float
    seconds_by_job: tuple[tuple[str, float], ...]
    forward_seconds: float
    backward_seconds: float


def measure_passes(
    network: nn.Module, images: Tensor, masks: Tensor, ignore_index: int, *, backward: bool = True
) -> tuple[float, float]:
    """Seconds of a forward and of a backward pass per image. One pass to warm up should precede it.

    Args:
        network: the network.
        images: `(B, C, H, W)`.
        masks: `(B, H, W)`.
        ignore_index: label of void pixels.
        backward: whether there is a backward pass; 0 seconds without.
    """
    with attackable(network):
        problem = batch_problem(images, masks, ignore_index)
        oracle, delta = NetworkOracle(network, problem.images), torch.zeros_like(problem.images)
        started = _now(images.device)
        logits = oracle.logits(delta, differentiable=backward)
        between = _now(images.device)
        if backward:
            oracle.pullback(torch.ones_like(logits))
        ended = _now(images.device)
    return (between - started) / len(images), (ended - between) / len(images)


def estimate(plan: Plan, num_images: int, forward_seconds: float, backward_seconds: float) -> Estimate:
    """Time for a plan from the time of passes."""
    by_job: dict[str, float] = {}
    for call in plan.attack_calls:
        forwards, backwards = max_passes(call)
        seconds = num_images * (forwards * forward_seconds + backwards * backward_seconds)
        by_job[call.job.name] = by_job.get(call.job.name, 0.0) + seconds
    return Estimate(
        seconds=num_images * forward_seconds + sum(by_job.values()),
        seconds_by_job=tuple(by_job.items()),
        forward_seconds=forward_seconds,
        backward_seconds=backward_seconds,
    )


def max_passes(call: AttackCall) -> tuple[float, float]:
    """Largest number of forward and backward passes per image, with judging and by-products; nan if not known."""
    forwards, backwards = call.job.attack.max_passes
    return forwards + len(call.recorded), backwards


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
