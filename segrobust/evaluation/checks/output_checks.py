"""Checks of a network's output, by forward passes alone."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from segrobust.evaluation.checks.check import Check, ProbeFinding, Status, make_check, worst_finding
from segrobust.evaluation.checks.probes import Probe
from segrobust.evaluation.signs import give_sign
from segrobust.functional.logits import require_logits
from segrobust.inputs import explain_refusals

_SIMPLEX_TOLERANCE: Final = 1e-3
"""Tolerance of sums of probabilities and of log-sum-exps: enough for half precision inside the network."""

_SMALL, _LARGE = 1e-4, 1e-3
"""Perturbations, image units, ten times apart; both are smaller than half a step of 8 bits, 1.96e-3."""

_COARSE: Final = 16 / 255
"""Perturbation, image units, that crosses steps of 8 bits."""

_PROPORTIONAL: Final = (5.0, 20.0)
"""A smooth output grows by 10 from `_SMALL` to `_LARGE`; with rounded inputs by sqrt(10), by 1, or from 0."""

_CHANGED_PIXELS: Final = 1e-3
"""Share of pixels close to a tie, whose class may change by floating-point noise alone."""


_REDUCED_PRECISION: Final = 0.01
"""Difference of logits, over their standard deviation, that half precision and bfloat16 cause."""

_CAUSES: Final = {
    "while gradients are recorded": "make the network predict the same with and without gradients: look for "
    "torch.is_grad_enabled, requires_grad and inference mode in it",
    "when it is judged again": "remove what is kept between calls (counters, caches, running averages) or drawn anew",
    "with other images in its batch": "remove statistics over the batch, such as BatchNorm in training mode or without "
    "running averages; until then use batch_size=1",
}
"""What changes predictions without a perturbation, and how to fix it."""


def check_deterministic(probes: Sequence[Probe]) -> Check:
    """Whether the same images give the same logits again, up to floating-point noise. Costs 3 shared forwards."""
    spread = max(float(probe.spread.max()) for probe in probes)
    noise = probes[0].float_noise
    return make_check(
        "deterministic",
        "ok" if spread <= noise else "fail",
        f"over 3 forwards of the same images, logits differ by up to {spread:.2g} of their standard deviation "
        f"({noise:.2g} is attributed to floating-point noise)",
        meaning="the network is randomised: gradients of a single draw are noisy, and a perturbation that breaks one "
        "draw may not break the next, so attacks look weaker than they are",
        fix="wrap each attack in segrobust.attacks.EOT, which averages over draws, or remove the randomness",
    )


def check_logits(probes: Sequence[Probe]) -> Check:
    """Whether the output is logits: probabilities fail, values in [0, 1] of any sum warn, log-probabilities pass.

    Log-probabilities are logits minus a number that all classes of a pixel share, so their margins and cross-entropies
    are those of the logits.
    """
    logits = [probe.clean for probe in probes]
    low = min(float(probe.clean[probe.possible].amin()) for probe in probes)
    high = max(float(z.amax()) for z in logits)
    unit = low >= 0 and high <= 1 + _SIMPLEX_TOLERANCE
    detail = f"outputs lie in [{low:.4g}, {high:.4g}]"
    status: Status = "warn" if unit else "ok"
    if unit and all(z.shape[1] == 2 and not z[:, 0].any() for z in logits):
        status, detail = "fail", f"{detail} and are 0 for the first class: a sigmoid was taken for a logit"
    elif unit and all(_is_one(z.sum(1)) for z in logits):
        status, detail = "fail", f"{detail} and sum to 1 over the classes: they are probabilities"
    elif unit:
        detail = f"{detail}, as the outputs of one sigmoid per class do"
    elif high <= _SIMPLEX_TOLERANCE and all(_is_one(z.logsumexp(1).exp()) for z in logits):
        detail = f"{detail} and are log-probabilities, which can be used as logits"
    return make_check(
        "logits",
        status,
        detail,
        meaning="a softmax or sigmoid in the network saturates: for confident predictions its gradient vanishes, and "
        "so does the gradient of every attack's loss",
        fix="return logits: remove the last softmax or sigmoid of the network"
        if status == "fail"
        else "if the network ends in a sigmoid or another function that saturates, return what comes before it; if "
        "these are logits that happen to lie in [0, 1], nothing is wrong",
    )


def _is_one(values: Tensor) -> bool:
    return bool(((values - 1).abs() <= _SIMPLEX_TOLERANCE).all())


def check_zero_radius(probes: Sequence[Probe]) -> Check:
    """Whether a perturbation of radius 0 changes nothing: fails where predictions change. Costs 4 forwards.

    The images are evaluated while gradients are recorded, as in an attack; once more without; and together with other
    images in a batch of twice the size.
    """
    ways: tuple[Callable[[Probe], Tensor], ...] = (
        lambda probe: probe.oracle().logits(torch.zeros_like(probe.problem.images)),
        lambda probe: probe.logits(),
        _among_others,
    )
    changed, distance, where = 0.0, 0.0, ""
    for way, ask in zip(_CAUSES, ways, strict=True):
        for probe in probes:
            logits = ask(probe)
            share, far = float(probe.changed(logits).max()), float(probe.distance(logits).max())
            if (share, far) > (changed, distance):
                changed, distance, where = share, far, way
    status: Status = "warn" if distance > probes[0].float_noise else "ok"
    if changed > _CHANGED_PIXELS:
        status = "fail"
    return make_check(
        "eps = 0",
        status,
        f"without any perturbation, up to {changed:.3%} of an image's pixels get another class, and logits differ by "
        f"up to {distance:.2g} of their standard deviation" + (f", most {where}" if where else ""),
        meaning="the output depends on more than the image: on the number of calls, on the mode or on the other "
        "images of the batch; the network that is attacked is then not the one that is judged",
        fix="logits of reduced precision differ by this much: run the network in float32, network.float()"
        if status == "warn" and distance < _REDUCED_PRECISION
        else _CAUSES[where or next(iter(_CAUSES))],
    )


def _among_others(probe: Probe) -> Tensor:
    """Logits of the images with darker mirrored copies before them in the batch, which change its statistics."""
    images = probe.problem.images
    batch = torch.cat((images.square().flip(-1), images))
    with torch.no_grad(), explain_refusals(probe.network, batch):
        logits = require_logits(probe.network(batch), batch)[len(images) :]
    give_sign()
    return logits.detach().to(images.dtype)


def check_unquantised(probes: Sequence[Probe]) -> Check:
    """Whether outputs change in proportion to perturbations far below 1/255: fails on steps. Costs 2 forwards.

    The perturbations are random signs times 1e-4 and times 1e-3. The output of a smooth network changes ten times as
    much. A network that rounds its input does not change on 8-bit images; or its change grows by sqrt(10), as more
    values pass a threshold, or not at all. A straight-through gradient hides rounding from all checks of the gradient.
    """
    status, detail, fix = worst_finding(found for probe in probes for found in _look_at_steps(probe))
    return make_check(
        "unquantised input",
        status,
        detail,
        meaning="a rounded input changes in steps: small perturbations have no effect until they cross a step, which a "
        "straight-through gradient hides, so radii and norms are off by up to half a step",
        fix=fix,
    )


def _look_at_steps(probe: Probe) -> list[ProbeFinding]:
    """One finding per image."""
    if float(probe.spread.max()) > probe.float_noise:
        return [
            ProbeFinding(
                "warn",
                "not measured: outputs differ without any perturbation",
                "repair what the check deterministic names first",
            )
        ]
    small, large = _response(probe, _SMALL), _response(probe, _LARGE)
    coarse = _response(probe, _COARSE) if bool((large == 0).any()) else large
    return [
        _judge_response(*values, visible=200 * torch.finfo(small.dtype).eps)
        for values in zip(small.tolist(), large.tolist(), coarse.tolist(), strict=True)
    ]


def _response(probe: Probe, size: float) -> Tensor:
    """Root mean square of the change of logits, over their scale, under random signs of a size: `(B,)`."""
    images = probe.problem.images
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, images.shape, generator=generator).to(images) * 2 - 1
    delta = (size * signs).clamp(probe.problem.lower, probe.problem.upper)
    return (probe.logits(delta) - probe.clean).flatten(1).square().mean(1).sqrt() / probe.scale


def _judge_response(small: float, large: float, coarse: float, *, visible: float) -> ProbeFinding:
    shown = f"random perturbations of {_SMALL:g} and {_LARGE:g} change logits by {small:.2g} and {large:.2g} of their "
    shown += "standard deviation"
    rounding = "remove the rounding of the input from the network and attack the rest; if it is part of the system, "
    rounding += "use radii that are multiples of its step"
    if large == 0 and coarse == 0:
        fix = "check the weights and the scale of the input (see the check wiring): the prediction is the same for all "
        shown += f", and one of {_COARSE:.2g} by 0: the output does not depend on the image"
        return ProbeFinding("warn", shown, fix + "images near this one")
    if large == 0:
        return ProbeFinding("fail", f"{shown}, but one of {_COARSE:.2g} by {coarse:.2g}", rounding)
    if large < visible:
        fix = (
            "check the scale of the input (see the check wiring), or compute in float64 to measure it: network.double()"
        )
        return ProbeFinding("warn", f"{shown}: too small to distinguish from rounding", fix)
    growth = large / small if small else float("inf")
    proportional = _PROPORTIONAL[0] < growth < _PROPORTIONAL[1]
    shown += f": {growth:.3g} times as much for ten times the perturbation"
    return ProbeFinding("ok" if proportional else "fail", shown, "" if proportional else rounding)
