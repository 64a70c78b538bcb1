r"""Calibrated ALMA-prox: the augmented Lagrangian of ALMA-prox in the scale of each image, for a warm start.

ALMA-prox (Rony, Pesquet & Ben Ayed, CVPR 2023) moves a value by at most 1e-3 a step, which is coarse for networks that
break at 1/255 and hopeless for those that break at 40/255; and it balances a norm of weight 1 against multipliers that
start at 1 for each of 50 000 pixels. The optimality conditions give both scales: with P the penalty of the constraints,
W the weight of the norm, t the norm, and ||.||* the dual norm,

    -grad P = W v,  ||v||* = 1,  <v, delta> = ||delta||    and so    ||grad P||* = W.

Each step, with a falling from 0.2 to 0.02 as half a cosine:

1. r is the smallest norm found; before the first success the distance at which the linearised constraints reach zero,
   growing by a tenth per step.
2. W is ||grad P||* at the first success, and 0 before; from then on it grows by a tenth after a success and falls by
   a tenth after a failure.
3. Forward step of length a r against the penalty in the metric of ALMA-prox, from a point carried on by half of the
   last movement; then the prox of the norm, with weight a r W.

Penalty, constraints (DLR, without a tolerance), dropped pixels, multipliers and penalty parameters are those of
ALMA-prox; penalty parameters start at 1 instead of 0.01, so that multipliers move by a tenth per step rather than by
thousandths.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.alma_prox import MAX_GRADIENT, AlmaProx, AlmaProxState
from segrobust.attacks.core.attack import check_attack_fields
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.norms import DUAL, NormName, norm, per_image
from segrobust.functional.prox import norm_of_ones, prox
from segrobust.functional.schedules import cosine_decay

STEP = (0.2, 0.02)  # share a of the norm at the start and at the end
GROWTH = 0.1  # of r per step before the first success
BALANCE_RATE = 0.1  # of W per step after it
INERTIA = 0.5
RMS_SMOOTHING = 0.5


@dataclass
class CalibratedAlmaProxState:
    """State of calibrated ALMA-prox; the image comes first in every tensor."""

    lagrangian: AlmaProxState
    previous: Tensor  # (B, C, H, W) perturbation before the current one
    violation: Tensor  # (B,) sum of the violated constraints of the first iterate
    radius: Tensor  # (B,) r
    smallest: Tensor  # (B,) smallest norm of a success
    weight: Tensor  # (B,) W


@dataclass(frozen=True, kw_only=True)
class CalibratedAlmaProx(IterativeAttack[CalibratedAlmaProxState]):
    """ALMA-prox with steps, norm and multipliers in proportion to the image at hand, minimal-norm, l_inf or l2.

    It is meant to continue from the result of another attack, as in `WarmStarted()`: pass `start=`. From zero it finds
    larger norms.

    Args:
        num_steps: iterations.
        norm: `"linf"` or `"l2"`.
        criterion: when a pixel, and when an image, is broken.
    """

    minimal_norm: ClassVar[bool] = True

    num_steps: int = 74
    norm: NormName = "linf"
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        check_attack_fields(("linf", "l2"), self.norm, None, self.num_steps)

    @property
    def lagrangian(self) -> AlmaProx:
        """The ALMA-prox whose constraints, penalty and multipliers are used."""
        return AlmaProx(
            num_steps=self.num_steps,
            norm=self.norm,
            criterion=self.criterion,
            initial_multiplier=1.0,
            initial_penalty=1.0,
            scale_rate=0.0,
            tolerance=0.0,
        )

    def init(self, problem: Problem) -> tuple[Tensor, CalibratedAlmaProxState]:
        """Starts at zero, or at the warm start, with equal multipliers."""
        delta, lagrangian = self.lagrangian.init(problem)
        zeros = torch.zeros_like(lagrangian.scale)
        return delta, CalibratedAlmaProxState(
            lagrangian=lagrangian,
            previous=delta,
            violation=zeros,
            radius=norm(delta, self.norm),
            smallest=torch.full_like(zeros, torch.inf),
            weight=zeros,
        )

    def observe(self, problem: Problem, iterate: Iterate, state: CalibratedAlmaProxState) -> CalibratedAlmaProxState:
        """Penalty parameters and multipliers; the violation of the first iterate."""
        state = replace(state, lagrangian=self.lagrangian.observe(problem, iterate, state.lagrangian))
        if iterate.step > 0:
            return state
        return replace(state, violation=(state.lagrangian.constraints.clamp_min(0) * problem.valid_mask).sum((1, 2)))

    def objective(self, problem: Problem, iterate: Iterate, state: CalibratedAlmaProxState) -> Tensor:
        """Minus the penalty of the active constraints."""
        return self.lagrangian.objective(problem, iterate, state.lagrangian)

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: CalibratedAlmaProxState) -> Tensor:
        """Forward step against the penalty's gradient in the metric H, then the prox of the norm in the same metric."""
        gradient = gradient.clamp(-MAX_GRADIENT, MAX_GRADIENT)
        self._calibrate(problem, iterate, gradient, state)
        inner, delta = state.lagrangian, iterate.delta
        ones = norm_of_ones(gradient[0].numel(), self.norm)
        step = cosine_decay(*STEP, iterate.step, self.num_steps) * state.radius / ones
        inner.square = torch.lerp(gradient.square(), inner.square, RMS_SMOOTHING)
        metric = (inner.square / (1 - RMS_SMOOTHING ** (iterate.step + 1))).sqrt_().clamp_min_(1e-12)
        target = torch.addcdiv(delta + INERTIA * (delta - state.previous), per_image(step, gradient) * gradient, metric)
        state.previous = delta
        weight = step * state.weight
        delta, inner.guess = prox(self.norm, target, metric, weight, problem.lower, problem.upper, inner.guess)
        return delta

    def done(self, problem: Problem, iterate: Iterate, state: CalibratedAlmaProxState) -> Tensor:
        """Images that are broken at norm 0."""
        return iterate.success & (iterate.norm == 0)

    def _calibrate(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: CalibratedAlmaProxState) -> None:
        """Sets r and W."""
        dual_norm = norm(gradient, DUAL[self.norm]).clamp_min(1e-30)
        first = iterate.success & state.smallest.isinf()
        rate = torch.where(iterate.success, 1 + BALANCE_RATE, 1 - BALANCE_RATE).float()  # whatever the default
        state.weight = torch.where(first, dual_norm, state.weight * rate)
        if iterate.step == 0:
            reach = torch.minimum(state.violation / dual_norm, norm(problem.upper - problem.lower, self.norm))
            state.radius = torch.maximum(reach, state.radius)
        state.smallest = torch.where(iterate.success, torch.minimum(iterate.norm, state.smallest), state.smallest)
        grown = torch.maximum(state.radius * (1 + GROWTH), iterate.norm)
        state.radius = torch.where(state.smallest.isinf(), grown, state.smallest)
