"""Checks of a network's gradient: whether it shows how the output changes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from segrobust.attacks import PGD, Attack, LagrangianFMN, Margin, Masked
from segrobust.evaluation.checks.check import Check, Status, graded, make_check, unmeasured, worst_finding, worst_of
from segrobust.evaluation.checks.probes import Probe
from segrobust.functional.margins import margin
from segrobust.functional.pixel_losses import cross_entropy

_ZERO_ENTRIES: Final = (0.5, 0.95)
"""Shares of entries of a gradient that are exactly zero: warn, fail."""

_SATURATED_PIXELS: Final = (0.5, 0.9)
"""Shares of unbroken pixels at which the gradient of the cross-entropy is zero: warn, fail."""

_NO_VALID_PIXEL: Final = "no image has a valid pixel"
_CHOOSE_OTHERS: Final = "choose other images"

_NEARLY_ALL: Final = 0.9
"""From this APSR of an unbounded attack on, a missed criterion is not taken for gradient masking."""


def check_gradient(probes: Sequence[Probe]) -> Check:
    """Whether the gradient of every image is finite and not zero. Costs one forward and one backward.

    The loss is the margin, which cannot saturate. Where the margin has a gradient, the logits may still be so large
    that the cross-entropy, which most attacks climb, has none: 1 - p is 0 in the precision of the logits.
    """
    looked = [_look_at_gradient(probe) for probe in probes if len(probe.labelled)]
    if not looked:
        return unmeasured("gradient", _NO_VALID_PIXEL, fix=_CHOOSE_OTHERS)
    return make_check(
        "gradient",
        *worst_finding(looked),
        meaning="gradient attacks follow the gradient: if it is zero or not finite, they make no progress, and the "
        "network looks robust",
        fix="replace operations without a useful derivative (rounding, sign, argmax, a root at 0) by differentiable "
        "ones, and attack with losses that do not depend on the scale of logits (segrobust.attacks.DLR); else trust "
        "only attacks without gradients (segrobust.attacks.Square)",
    )


def _look_at_gradient(probe: Probe) -> tuple[Status, str]:
    probe = probe.select(probe.labelled)
    try:
        gradient = probe.gradient(margin)
    except ValueError as error:
        return "fail", str(error)
    valid = probe.problem.valid_mask
    broken_images = int((~gradient.isfinite().flatten(1).all(1)).sum())
    if broken_images:
        return "fail", f"the gradient of the margin is not finite in {broken_images} of {len(gradient)} images"
    zeros = ((gradient == 0) & valid[:, None]).flatten(1).sum(1) / (valid.flatten(1).sum(1) * gradient.shape[1])
    zero = float(zeros.max())
    loss = cross_entropy(probe.clean, probe.problem.labels)
    unbroken = valid & ~probe.criterion.broken(probe.clean, probe.problem)
    flat = float((loss <= torch.finfo(loss.dtype).eps)[unbroken].double().mean()) if unbroken.any() else 0.0
    entries = graded(zero, warn=_ZERO_ENTRIES[0], fail=_ZERO_ENTRIES[1])
    pixels = graded(flat, warn=_SATURATED_PIXELS[0], fail=_SATURATED_PIXELS[1])
    return worst_of((entries, pixels)), (
        f"the gradient of the margin is exactly zero in up to {zero:.1%} of an image's values, "
        f"and that of the cross-entropy at {flat:.1%} of the unbroken pixels"
    )


class _GradientCalls(TorchFunctionMode):
    """Counts backward passes inside the context, by whichever function they are started."""

    watched: Final = (torch.autograd.grad, torch.autograd.backward, Tensor.backward)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls the function unchanged."""
        self.count += func in self.watched
        return func(*args, **(kwargs or {}))


def check_no_optimisation(probes: Sequence[Probe]) -> Check:
    """Whether the network computes gradients while it predicts: then it fails. Costs one forward."""
    with _GradientCalls() as calls:
        for probe in probes:
            probe.oracle().logits(torch.zeros_like(probe.problem.images))
    return make_check(
        "no optimisation inside",
        "fail" if calls.count else "ok",
        f"{calls.count} backward passes inside {len(probes)} forwards",
        meaning="the network optimises its input or its weights while it predicts, and the gradient through this "
        "loop is missing or misleading: gradient attacks overestimate its robustness",
        fix="also attack it by transfer from the network without the loop (surrogate=), and without gradients "
        "(segrobust.attacks.Square)",
    )


@dataclass(frozen=True)
class _Outcome:
    """The result of an unbounded attack on an image: success, APSR, and whether any prediction changed."""

    success: bool
    apsr: float
    changed: bool


def check_unbounded(probes: Sequence[Probe]) -> Check:
    """Whether an attack bounded by the box alone breaks every image: fails if one is not broken. Up to 83 passes.

    Runs Lagrangian FMN with 20 passes, then PGD with 20 steps at eps = 1 on the images that are not broken. An image is
    finished at its first success, usually after 10 to 15 steps. An image that misses the criterion although nine tenths
    of its pixels are broken only warns. Images that are broken without attack are left out.
    """
    name = "unbounded attack"
    intact = [probe.select(probe.intact) for probe in probes if len(probe.intact)]
    if not intact:
        return unmeasured(name, "no image has valid pixels and is unbroken without attack", fix=_CHOOSE_OTHERS)
    status: Status = "fail"
    try:
        status, detail = _judge_outcomes([outcome for probe in intact for outcome in _attack_without_bound(probe)])
    except (ValueError, FloatingPointError) as error:  # no gradient, or a step along one that is NaN
        detail = f"the attack raised an error: {error}"
    return make_check(
        name,
        status,
        detail,
        meaning="without a bound on the perturbation, every network that depends on its input can be broken. If an "
        "attack fails, gradients are masked and all numbers overestimate the robustness; or the prediction is "
        "constant, which is robust but useless",
        fix="see the other checks for the cause; attack with several losses, with more steps, and without gradients "
        "(segrobust.attacks.Square)",
    )


def _judge_outcomes(outcomes: list[_Outcome]) -> tuple[Status, str]:
    left = [outcome for outcome in outcomes if not outcome.success]
    detail = f"{len(outcomes) - len(left)} of {len(outcomes)} images are broken by unbounded perturbations"
    if not left:
        return "ok", detail
    lowest = min(outcome.apsr for outcome in left)
    still = sum(not outcome.changed for outcome in left)
    detail += f", and at least {lowest:.1%} of the pixels of the others"
    detail += f"; the prediction of {still} images never changes" if still else ""
    return "warn" if lowest >= _NEARLY_ALL else "fail", detail


def _attack_without_bound(probe: Probe) -> list[_Outcome]:
    """One outcome per image, of the first attack that succeeds, else of the last."""
    attacks: tuple[Attack, ...] = (
        LagrangianFMN(num_passes=20, criterion=probe.criterion),
        PGD(num_steps=20, step_ratio=0.05, loss=Masked(loss=Margin()), criterion=probe.criterion),
    )
    radii: tuple[float | None, ...] = (None, 1.0)
    outcomes: list[_Outcome] = []
    for attack, eps in zip(attacks, radii, strict=True):
        found = _run(attack, eps, probe)
        outcomes += [outcome for outcome in found if outcome.success]
        left = torch.tensor([row for row, outcome in enumerate(found) if not outcome.success])
        if not len(left):
            return outcomes
        probe = probe.select(left)
    return outcomes + [outcome for outcome in found if not outcome.success]


def _run(attack: Attack, eps: float | None, probe: Probe) -> list[_Outcome]:
    """Runs an attack that stops at its first success."""
    problem = probe.problem
    radii = None if eps is None else torch.full_like(problem.images[:, 0, 0, 0], eps)
    best = attack.run(probe.oracle(), replace(problem, eps=radii, stop_on_success=True), None).best
    changed = probe.changed(probe.logits(best.delta)) > 0
    apsr = best.num_broken / problem.num_valid
    return [_Outcome(*values) for values in zip(best.success.tolist(), apsr.tolist(), changed.tolist(), strict=True)]
