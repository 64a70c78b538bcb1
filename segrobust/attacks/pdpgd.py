r"""PDPGD: proximal gradient steps of the perturbation against weights of pixels that grow while they are unbroken.

Source: A. Matyasko, L.-P. Chau, "PDPGD: Primal-Dual Proximal Gradient Descent Adversarial Attack", arXiv 2106.01538.
For segmentation it is a baseline of J. Rony, J.-C. Pesquet, I. Ben Ayed, "Proximal Splitting Adversarial Attacks for
Semantic Segmentation", CVPR 2023, whose released code is called "published" here.

    minimise ||delta||_p / D^(1/p)   subject to   m_i(x + delta) < 0 for 99 % of the valid pixels i,
                                                  x + delta in [0, 1]

with m the signed margin of the logits, and D the number of values of an image, so that the norm's pull does not depend
on its size. The weights of the norm and of the pixels sum to one. Steps lower

    lambda_0 / (sum_i lambda_i) ||delta||_p / D^(1/p)  +  sum_i lambda_i softplus(4 m_i / s)

with s the mean |m| of the image, and the logarithms of the lambda_i follow the signs of the m_i.

| paper        | here                     | meaning                                                         |
|--------------|--------------------------|-----------------------------------------------------------------|
| r            | `delta`                  | perturbation                                                    |
| theta_r      | `step_size`              | step of delta, falls exponentially to 1 % of it                 |
| H            | `SECOND_MEMORY`          | diagonal metric of Adam: root of the averaged squared gradient  |
| log lambda_i | `PDPGDState.log_weights` | logarithm of a pixel's weight over the norm's                   |
| lambda_i     | `PDPGDState.weights`     | `softmax(0, log_weights)`, averaged over the steps              |
| lambda_0     | `PDPGDState.norm_weight` | the norm's share of that                                        |
| theta_lambda | `WEIGHT_STEP`            | step of the log-weights, falls linearly                         |
"""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_attack_fields, check_step_size
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.lengths import Length
from segrobust.functional.logistic import sigmoid
from segrobust.functional.margins import margin_scale
from segrobust.functional.norms import NormName, norm, per_image
from segrobust.functional.prox import norm_of_ones, prox

FINAL_STEP_RATIO = 0.01
FIRST_MEMORY = 0.9
SECOND_MEMORY = {False: 0.9, True: 0.999}  # ours, published
WEIGHT_STEP = (0.1, 0.01)  # at the start and at the end
WEIGHT_MEMORY = 0.9
LARGEST_LOG_WEIGHT = -math.log(1e-12)
SPAN = 3.0  # log-weights stay that close to their level
SHARPNESS = 4.0  # of the softplus, in mean absolute margins
PROX_ITERATIONS = 5  # published: at most
PROX_CHANGE = 1e-2  # published: of the l2 norm, below which the iteration stops


@dataclass
class PDPGDState:
    """State of PDPGD; the image comes first in every tensor."""

    log_weights: Tensor  # (B, H, W) over the norm's weight; -inf where void
    level: Tensor  # (B,) middle of the log-weights
    weights: Tensor  # (B, H, W) lambda_i
    pulls: Tensor  # (B, H, W) lambda_i times the slope of the softplus at the current iterate
    norm_weight: Tensor  # (B,) lambda_0
    first: Tensor  # (B, C, H, W) averaged gradient
    second: Tensor  # (B, C, H, W) averaged squared gradient
    guess: Tensor  # (B,) norm found by the last prox, where the next one starts looking


@dataclass(frozen=True, kw_only=True)
class PDPGD(IterativeAttack[PDPGDState]):
    """PDPGD, minimal-norm, l_inf, l2 or l1, untargeted or targeted (Matyasko & Chau, arXiv 2106.01538).

    `PDPGD(published=True)` follows the released code with its authors' step size of 0.01. By default five things
    differ:

    - the prox of norm and box in Adam's metric is exact; published are at most five steps of an iteration towards it,
      which clips to the box after each (`prox_iterated`);
    - squared gradients are averaged with 0.9, not 0.999: the large ones of the first steps slow all others down;
    - margins are measured in their mean absolute value over the image, and the norm by that of an image of ones;
    - log-weights stay within 3 of a level, which rises by a step of theirs on failure and falls on success. Published
      bounds are +-27.6, so that a pixel that was broken for long takes as long to get its weight back;
    - thereby success, not only the sign of each pixel, decides the weight of the norm: up to 1 % may stay unbroken. (An
        option of the released code that leaves out the hardest pixels, off by default, did not help.)

    In either form: step and prox have the same length, the averaged gradient is corrected for its bias and the squared
    one too; the norm's weight is averaged by itself rather than as one less the pixels' sum, so that float32 suffices
    (published: float64); a sum of pixel weights that vanishes sends delta to zero; the last iterate is judged too.

    Args:
        num_steps: gradient steps.
        norm: `"linf"`, `"l2"` or `"l1"`.
        criterion: when a pixel, and when an image, is broken.
        step_size: first step size, image units: the change of one value, in every norm.
        published: whether to follow the released code.
    """

    minimal_norm: ClassVar[bool] = True

    num_steps: int = 500
    norm: NormName = "linf"
    criterion: Criterion = field(default_factory=Untargeted)
    step_size: Length = 1e-2
    published: bool = False

    def __post_init__(self) -> None:
        check_attack_fields(("linf", "l2", "l1"), self.norm, None, self.num_steps)
        check_step_size(self.step_size, "the authors' is 0.01")

    def init(self, problem: Problem) -> tuple[Tensor, PDPGDState]:
        """Starts at zero, or at the warm start; all pixels together weigh as much as the norm."""
        delta = problem.start_or_zero
        level = -problem.num_valid.clamp_min(1).to(delta.dtype).log()
        log_weights = level[:, None, None].expand(problem.valid_mask.shape).masked_fill(~problem.valid_mask, -torch.inf)
        weights, norm_weight = _shares(log_weights)
        return delta, PDPGDState(
            log_weights=log_weights,
            level=level,
            weights=weights,
            pulls=weights,
            norm_weight=norm_weight,
            first=torch.zeros_like(delta),
            second=torch.zeros_like(delta),
            guess=torch.zeros_like(level),
        )

    def observe(self, problem: Problem, iterate: Iterate, state: PDPGDState) -> PDPGDState:
        """The averaged weights, their logarithms for the next step, and the pull of each pixel."""
        margins = self.criterion.margins(iterate.logits, problem)
        weights, norm_weight = state.weights, state.norm_weight
        if iterate.step > 0:
            new_weights, new_norm_weight = _shares(state.log_weights)
            weights = torch.lerp(new_weights, weights, WEIGHT_MEMORY)
            norm_weight = torch.lerp(new_norm_weight, norm_weight, WEIGHT_MEMORY)
        level, log_weights = self._ascend(problem, iterate, margins, state)
        if self.published:
            sharpness = torch.ones_like(level)
        else:
            sharpness = SHARPNESS / margin_scale(margins, problem.valid_mask, iterate.logits)
        slope = sharpness[:, None, None] * sigmoid(sharpness[:, None, None] * margins)
        return replace(
            state,
            weights=weights,
            norm_weight=norm_weight,
            level=level,
            log_weights=log_weights,
            pulls=weights * slope,
        )

    def objective(self, problem: Problem, iterate: Iterate, state: PDPGDState) -> Tensor:
        """Minus the weighted sum of `softplus(4 m_i / s)`, linearised by its slope."""
        return -(state.pulls * self.criterion.margins(iterate.logits, problem)).sum((1, 2))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: PDPGDState) -> Tensor:
        """A step of Adam, then the prox of the norm and the box in Adam's metric."""
        memory, count = SECOND_MEMORY[self.published], iterate.step + 1
        state.first = torch.lerp(gradient, state.first, FIRST_MEMORY)
        state.second = torch.lerp(gradient.square(), state.second, memory)
        metric = (state.second / (1 - memory**count)).sqrt_().add_(1e-8)
        step = self.step_size * FINAL_STEP_RATIO ** (iterate.step / self.num_steps)
        # The gradient is that of minus what the step lowers.
        target = torch.addcdiv(iterate.delta, state.first, metric, value=step / (1 - FIRST_MEMORY**count))
        weight = step * state.norm_weight / state.weights.sum((1, 2)).clamp_min(1e-30)
        if self.published:
            return prox_iterated(self.norm, target, metric, weight, problem.lower, problem.upper)
        weight = weight / norm_of_ones(gradient[0].numel(), self.norm)
        delta, state.guess = prox(self.norm, target, metric, weight, problem.lower, problem.upper, state.guess)
        return delta

    def _ascend(self, problem: Problem, iterate: Iterate, margins: Tensor, state: PDPGDState) -> tuple[Tensor, Tensor]:
        """Level and log-weights: those of unbroken pixels rise by a step and those of broken ones fall."""
        first, last = WEIGHT_STEP
        fall = (self.num_steps - 1 - iterate.step) / max(self.num_steps - 1, 1)
        step = last + (first - last) * fall
        level, log_weights = state.level, state.log_weights + step * margins.sign()
        if self.published:
            log_weights = log_weights.clamp_(-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT)
        else:
            level = torch.where(iterate.success, level - step, level + step)
            level = level.clamp_(-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT)
            middle = level[:, None, None]
            log_weights = torch.maximum(torch.minimum(log_weights, middle + SPAN), middle - SPAN)
        return level, log_weights.masked_fill(~problem.valid_mask, -torch.inf)


def _shares(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of the pixels' log-weights and a zero for the norm: shares `(B, H, W)` of pixels, `(B,)` of the norm."""
    largest = log_weights.amax((1, 2)).clamp_min(0)
    pixels, own = (log_weights - largest[:, None, None]).exp_(), (-largest).exp_()
    total = own + pixels.sum((1, 2))
    return pixels / total[:, None, None], own / total


def prox_iterated(name: NormName, v: Tensor, metric: Tensor, weight: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    r"""The published prox: a few proximal gradient steps towards that of norm and box in a diagonal metric.

    With v clipped to the box, h the largest value of the metric, and `prox` the Euclidean one without a box, up to five
    times

        z <- clip(prox(z - H / h (z - v), weight / h), lower, upper)

    from z = v, as long as the step before changed z by more than 1 % of its l2 norm. This stops far from the minimiser
    of `segrobust.functional.prox.prox` where H is much smaller than h. It is here to reproduce published results.

    Args as of that one.

    Returns:
        z `(B, ...)`.

    Source: released code of Rony et al., CVPR 2023, after Melchior et al., arXiv 1910.10094.
    """
    v = torch.maximum(torch.minimum(v, upper), lower)
    largest = metric.flatten(1).amax(1)
    share, weight = metric / per_image(largest, v), weight / largest
    ones, far = torch.ones_like(v), torch.full_like(v, torch.inf)
    z, change = v, torch.ones_like(largest)
    for _ in range(PROX_ITERATIONS):
        goes_on = change > PROX_CHANGE
        if not goes_on.any():
            break
        nearer, _ = prox(name, torch.addcmul(z, share, z - v, value=-1), ones, weight, -far, far)
        nearer = torch.where(per_image(goes_on, z), torch.maximum(torch.minimum(nearer, upper), lower), z)
        change = norm(nearer - z, "l2") / norm(nearer, "l2").clamp_min(1e-30)
        z = nearer
    return z
