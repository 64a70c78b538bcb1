"""Checks of a network's gradient: whether it shows how the output changes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from segrobust.attacks import PGD, Attack, LagrangianFMN, Margin, Masked
from segrobust.evaluation.checks.check import Check, ProbeFinding, graded, make_check, unmeasured, worst_finding
from segrobust.evaluation.checks.probes import Probe
from segrobust.functional.margins import margin
from segrobust.functional.pixel_losses import cross_entropy

_ZERO_ENTRIES: Final = (0.5, 0.95)
"""Shares of entries of a gradient that are exactly zero: warn, fail."""

_SATURATED_PIXELS: Final = (0.5, 0.9)
"""Shares of unbroken pixels at which the gradient of the cross-entropy is zero: warn, fail."""

_NO_VALID_PIXEL: Final = "no image has a valid pixel"
_CHOOSE_OTHERS: Final = "choose other images"
_ELSE_SQUARE: Final = "otherwise trust only attacks without gradients (segrobust.attacks.Square)"

_NEARLY_ALL: Final = 0.9
"""From this APSR of an unbounded attack on, a missed criterion is not taken for gradient masking."""

_TRAINED: Final = 0.25
"""Accuracy, from 0 for that of the most common class to 1 for no error, below which an image that resists does not show
gradient masking: networks of random weights and early in a training, whose gradients were right, reached 0.13."""


def check_gradient(probes: Sequence[Probe]) -> Check:
    """Whether the gradient of every image is finite and not zero. Costs one forward and one backward.

    The loss is the margin, which cannot saturate. Where the margin has a gradient, the logits may still be so large
    that the cross-entropy, which most attacks climb, has none: 1 - p is 0 in the precision of the logits.
    """
    looked = [finding for probe in probes if len(probe.labelled) for finding in _look_at_gradient(probe)]
    if not looked:
        return unmeasured("gradient", _NO_VALID_PIXEL, fix=_CHOOSE_OTHERS)
    status, detail, fix = worst_finding(looked)
    return make_check(
        "gradient",
        status,
        detail,
        meaning="gradient attacks follow the gradient: if it is zero or not finite, they make no progress, and the "
        "network looks robust",
        fix=fix,
    )


def _look_at_gradient(probe: Probe) -> list[ProbeFinding]:
    """Findings of every image; one of the probe if it has no gradient."""
    probe = probe.select(probe.labelled)
    try:
        gradient = probe.gradient(margin)
    except ValueError as error:
        fix = "remove what cuts the gradient between input and output: detach, no_grad, argmax, numpy; " + _ELSE_SQUARE
        return [ProbeFinding("fail", str(error), fix)]
    valid = probe.problem.valid_mask
    zeros = ((gradient == 0) & valid[:, None]).flatten(1).sum(1) / (valid.flatten(1).sum(1) * gradient.shape[1])
    loss = cross_entropy(probe.clean, probe.problem.labels)
    unbroken = valid & ~probe.criterion.broken(probe.clean, probe.problem)
    resolution = torch.finfo(loss.dtype).eps
    flat = ((loss <= resolution) & unbroken).flatten(1).sum(1) / unbroken.flatten(1).sum(1).clamp_min(1)
    measured = zip(probe.sample_ids, gradient.isfinite().flatten(1).all(1), zeros, flat, strict=True)
    return [
        finding
        for sample_id, finite, zero, saturated in measured
        for finding in _judge_gradient(sample_id, bool(finite), float(zero), float(saturated), resolution)
    ]


def _judge_gradient(
    sample_id: int, finite: bool, zero: float, saturated: float, resolution: float
) -> tuple[ProbeFinding, ...]:
    """Findings of one image, the cause that explains the others first."""
    if not finite:
        fix = "find the operation by torch.autograd.set_detect_anomaly(True), usually a root, a logarithm or a "
        fix += "division at 0, and keep its argument above a small constant"
        return (ProbeFinding("fail", f"the gradient of the margin is NaN or infinite in image {sample_id}", fix),)
    share = f"the gradient of the margin is exactly zero in {zero:.1%} of the values of image {sample_id}"
    vanished = f"the cross-entropy is below {resolution:.2g}, so that its gradient vanishes by rounding, at "
    vanished += f"{saturated:.1%} of the correctly classified pixels of image {sample_id}"
    return (
        ProbeFinding(
            graded(zero, warn=_ZERO_ENTRIES[0], fail=_ZERO_ENTRIES[1]),
            f"{share}; {vanished}",
            "replace operations without a useful derivative (rounding, sign, argmax, thresholds) by differentiable "
            "ones; if the image is of one colour or clipped, choose other images; " + _ELSE_SQUARE,
        ),
        ProbeFinding(
            graded(saturated, warn=_SATURATED_PIXELS[0], fail=_SATURATED_PIXELS[1]),
            f"{vanished}; that of the margin is zero in {zero:.1%} of the image's values",
            "divide the logits by a constant in the network, or use attacks whose loss does not saturate: "
            "loss=Margin() or loss=DLR() of segrobust.attacks, AlmaProx, LagrangianFMN. Do not trust the numbers of "
            "attacks on the cross-entropy here",
        ),
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

    def better(self, other: "_Outcome") -> "_Outcome":
        """The best of two attacks on the image."""
        return _Outcome(self.success or other.success, max(self.apsr, other.apsr), self.changed or other.changed)


def check_unbounded(probes: Sequence[Probe]) -> Check:
    """Whether an attack bounded by the box alone breaks every image: fails if one is not broken. Up to 83 passes.

    Runs Lagrangian FMN with 20 passes, then PGD with 20 steps at eps = 1 on the images that are not broken. An image is
    finished at its first success, usually after 10 to 15 steps. An image that misses the criterion although nine tenths
    of its pixels are broken only warns, and so does a network that is hardly better than the most common class. Images
    that are broken without attack are left out.
    """
    name = "unbounded attack"
    intact = [probe.select(probe.intact) for probe in probes if len(probe.intact)]
    if not intact:
        return unmeasured(name, "no image has valid pixels and is unbroken without attack", fix=_CHOOSE_OTHERS)
    try:
        found = _judge_outcomes([outcome for probe in intact for outcome in _attack_without_bound(probe)])
        found = _excused_if_untrained(found, intact)
    except (ValueError, FloatingPointError) as error:  # no gradient, or a step along one that is NaN
        found = ProbeFinding(
            "fail", f"the attack raised an error: {error}", "repair what the check gradient names first"
        )
    return make_check(
        name,
        found.status,
        found.detail,
        meaning="without a bound on the perturbation, every network that depends on its input can be broken. If an "
        "attack fails, gradients are masked and all numbers overestimate the robustness; or the prediction is "
        "constant, which is robust but useless",
        fix=found.fix,
    )


def _excused_if_untrained(found: ProbeFinding, probes: Sequence[Probe]) -> ProbeFinding:
    """Warns in place of a failure if the network hardly separates the several classes of the images.

    Such a network reacts so little that one class wins at many pixels in the whole box, whatever its gradient is.
    """
    labels = torch.cat([probe.problem.labels[probe.problem.valid_mask] for probe in probes])
    predicted = torch.cat([probe.clean.argmax(1)[probe.problem.valid_mask] for probe in probes])
    common = labels.bincount().max().item() / len(labels)
    accuracy = (predicted == labels).double().mean().item()
    if found.status != "fail" or common == 1 or accuracy >= common + _TRAINED * (1 - common):
        return found
    detail = f"{found.detail}; without attack, the network is right at {accuracy:.1%} of the pixels of these images, "
    detail += f"and predicting their most common class is at {common:.1%}"
    fix = "train it longer, or evaluate a later checkpoint: before, the numbers say nothing about gradients"
    return ProbeFinding("warn", detail, fix)


def _judge_outcomes(outcomes: list[_Outcome]) -> ProbeFinding:
    left = [outcome for outcome in outcomes if not outcome.success]
    detail = f"{len(outcomes) - len(left)} of {len(outcomes)} images are broken by unbounded perturbations"
    if not left:
        return ProbeFinding("ok", detail, "")
    lowest = min(outcome.apsr for outcome in left)
    still = sum(not outcome.changed for outcome in left)
    detail += f", and at least {lowest:.1%} of the pixels of the others"
    detail += f"; the prediction of {still} images never changes" if still else ""
    if still == len(left):
        fix = "look at the predictions: if they do not depend on the image, check the weights, the checkpoint and the "
        fix += "scale of the input (see the check wiring); if they do, find what masks the gradient (see the check "
        return ProbeFinding("fail", detail, fix + "gradient), and attack without gradients (segrobust.attacks.Square)")
    if lowest >= _NEARLY_ALL:
        fix = "report this with the numbers: a few pixels never break, so success rates stay below 100 % at any "
        return ProbeFinding("warn", detail, fix + "radius; a criterion with a smaller apsr= does not count them")
    fix = "compare with attacks of other losses and more steps, and with one without gradients "
    return ProbeFinding("fail", detail, fix + "(segrobust.attacks.Square): if these break more, the gradient is masked")


def _attack_without_bound(probe: Probe) -> list[_Outcome]:
    """One outcome per image: the better one of the two attacks, of which the second sees what the first leaves."""
    found = _run(LagrangianFMN(num_passes=20, criterion=probe.criterion), None, probe)
    left = [row for row, outcome in enumerate(found) if not outcome.success]
    if left:
        second = PGD(num_steps=20, step_ratio=0.05, loss=Masked(loss=Margin()), criterion=probe.criterion)
        for row, outcome in zip(left, _run(second, 1.0, probe.select(torch.tensor(left))), strict=True):
            found[row] = found[row].better(outcome)
    return found


def _run(attack: Attack, eps: float | None, probe: Probe) -> list[_Outcome]:
    """Runs an attack that stops at its first success."""
    problem = probe.problem
    radii = None if eps is None else torch.full_like(problem.images[:, 0, 0, 0], eps)
    best = attack.run(probe.oracle(), replace(problem, eps=radii, stop_on_success=True), None).best
    changed = probe.changed(probe.logits(best.delta)) > 0
    apsr = best.num_broken / problem.num_valid
    return [_Outcome(*values) for values in zip(best.success.tolist(), apsr.tolist(), changed.tolist(), strict=True)]
