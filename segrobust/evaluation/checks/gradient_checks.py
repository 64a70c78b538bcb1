"""Checks of what a network tells attacks: whether its gradient says how its answers change."""

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
"""Shares of unbroken pixels whose cross-entropy has no slope left: warn, fail."""

_NO_VALID_PIXEL: Final = "no image has a valid pixel"
_CHOOSE_OTHERS: Final = "choose other images"

_NEARLY_ALL: Final = 0.9
"""APSR of an unbounded attack from which on a missed criterion is no sign of masking."""


def check_gradient(probes: Sequence[Probe]) -> Check:
    """Whether every image has a gradient to follow: finite, and not zero. Costs a pass both ways.

    The loss is the margin, which cannot saturate. Where the margin has a gradient, the logits may still be so large
    that the cross-entropy, which most attacks climb, has none: 1 - p is 0 in the precision of the logits.
    """
    looked = [_look_at_gradient(probe) for probe in probes if len(probe.labelled)]
    if not looked:
        return unmeasured("gradient", _NO_VALID_PIXEL, mend=_CHOOSE_OTHERS)
    return make_check(
        "gradient",
        *worst_finding(looked),
        meaning="attacks go where the gradient points: where it is zero or no number they stand still, and the "
        "network looks robust",
        mend="replace what has no derivative by what has one (rounding, sign, argmax, a root at 0), and attack with "
        "losses that do not depend on the scale of logits (segrobust.attacks.DLR); else trust only attacks without "
        "gradients (segrobust.attacks.Square)",
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
        f"and the slope of the cross-entropy at {flat:.1%} of the unbroken pixels"
    )


class _GradientCalls(TorchFunctionMode):
    """Counts backward passes that are asked for inside, whatever name the caller knows the functions by."""

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
        """Calls the function as it is."""
        self.count += func in self.watched
        return func(*args, **(kwargs or {}))


def check_no_optimisation(probes: Sequence[Probe]) -> Check:
    """Whether the network computes gradients while it predicts: fails where it does. Costs a forward."""
    with _GradientCalls() as calls:
        for probe in probes:
            probe.oracle().logits(torch.zeros_like(probe.problem.images))
    return make_check(
        "no optimisation inside",
        "fail" if calls.count else "ok",
        f"{calls.count} backward passes inside {len(probes)} forwards",
        meaning="a network that optimises its input or itself while it predicts answers by a loop, whose own gradient "
        "is missing or says little: attacks by gradients underrate what breaks it",
        mend="attack the network without the loop as well, by a transfer (surrogate=) and with attacks without "
        "gradients (segrobust.attacks.Square)",
    )


@dataclass(frozen=True)
class _Outcome:
    """What an attack without bound did to an image: its success, the share of broken pixels, and whether any moved."""

    success: bool
    apsr: float
    changed: bool


def check_unbounded(probes: Sequence[Probe]) -> Check:
    """Whether an attack without bound but the box breaks every image: fails where one is left. Up to 83 passes.

    Lagrangian FMN with 20 passes, and PGD with 20 steps at eps = 1 on what it leaves; an image leaves at its success,
    usually after 10 to 15 steps. An image that misses the criterion with nine tenths of its pixels broken warns only.
    One that is broken without attack says nothing, and is left out.
    """
    name = "unbounded attack"
    intact = [probe.select(probe.intact) for probe in probes if len(probe.intact)]
    if not intact:
        return unmeasured(name, "no image has valid pixels and is unbroken without attack", mend=_CHOOSE_OTHERS)
    status: Status = "fail"
    try:
        status, detail = _judge_outcomes([outcome for probe in intact for outcome in _attack_without_bound(probe)])
    except (ValueError, FloatingPointError) as error:  # no gradient, or a step along one that is NaN
        detail = f"the attack came to nothing: {error}"
    return make_check(
        name,
        status,
        detail,
        meaning="when every image is allowed, any network that looks at its input can be broken: where an attack "
        "cannot, its gradients are masked and all its numbers too good; or the prediction is constant, which is robust "
        "and of no use",
        mend="look at the other checks for the cause; attack with several losses, more steps, and without gradients "
        "(segrobust.attacks.Square)",
    )


def _judge_outcomes(outcomes: list[_Outcome]) -> tuple[Status, str]:
    left = [outcome for outcome in outcomes if not outcome.success]
    detail = f"{len(outcomes) - len(left)} of {len(outcomes)} images are broken by perturbations without bound"
    if not left:
        return "ok", detail
    lowest = min(outcome.apsr for outcome in left)
    still = sum(not outcome.changed for outcome in left)
    detail += f", of the others at least {lowest:.1%} of the pixels"
    detail += f"; the prediction of {still} never changes" if still else ""
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
    """An attack that stops at its success."""
    problem = probe.problem
    radii = None if eps is None else torch.full_like(problem.images[:, 0, 0, 0], eps)
    best = attack.run(probe.oracle(), replace(problem, eps=radii, stop_on_success=True), None).best
    changed = probe.changed(probe.logits(best.delta)) > 0
    apsr = best.num_broken / problem.num_valid
    return [_Outcome(*values) for values in zip(best.success.tolist(), apsr.tolist(), changed.tolist(), strict=True)]
