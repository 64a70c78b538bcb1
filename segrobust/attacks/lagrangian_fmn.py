r"""Lagrangian FMN: minimal norms in few passes, by pixel weights that follow margins and a radius that follows success.

    minimise ||delta||   subject to   v_i(x + delta) < 0 for 99 % of the valid pixels i,   x + delta in [0, 1]

with v the signed margin of the logits, positive where a pixel is unbroken. Direction and radius are separated, as in
FMN (Pintor et al., NeurIPS 2021). Whether a perturbation within a radius t breaks all pixels is a game: one side picks
weights of pixels, the other the perturbation that lowers the weighted sum of margins most. For linear margins,
multiplicative weights against best responses solve it, with the averaged play as solution (Freund & Schapire, 1999);
the weights tend to the multipliers of the pixels. Here the best response to weights u is a step of length t
along the steepest descent of the weighted margins, and moving a share of the way towards it is the average.

Each pass, with s the mean |v| over the valid pixels of the image, which makes everything independent of the logits'
scale, and c falling from 1 to 0 as half a cosine:

1. u_i <- clip(u_i exp(0.1 tanh(v_i / s)), 1/20, 20): an unbroken pixel gains weight, a broken one loses it.
2. g = gradient of sum_i u_i w_i (z_y - T log sum_{k != y} exp(z_k / T))_i / s, with w_i = sigmoid(4 v_i / s) held
   constant and T = s / 5; over its dual norm it is averaged: m <- (m + g / ||g||*) / 2.
3. Radius. At the start it is the distance at which the linearised weighted margins reach zero, their sum over the dual
   norm of g, or the radius that the caller gives. Until the first success it grows by 2 to 32 %, the more pixels are
   unbroken, and with N passes at least by 1.5 / N of itself, or 0.5 / N where the caller knows it. Ten iterates in a
   row that are farther from success than an earlier one show that growth does not help: the radius returns to where
   the image was nearest, and stays until smaller steps bring it nearer still. After a success it
   is (1 - gamma) times the smallest norm; after three failures in a row it grows by gamma, below the smallest norm.
4. Step of length a t along the steepest descent of m, into ball and box, with an inertia of 1/4.

gamma falls from 0.25 to 0.01, a from 0.5 to 0.03. With pixels to keep, which are many and far from their boundary, s
is the smaller of that of the attacked and that of the kept pixels, and the share of unbroken pixels the larger of the
two shares. Where every attacked pixel has a target and none is to be kept, many pixels stay unbroken for long, whatever
the radius: with N passes it grows by 1.5 / N, and by 6 / N (at most 0.3) times their share, so that more passes search
the same radii longer and go no farther.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import Attack, check_attack_fields
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.logistic import sigmoid
from segrobust.functional.margins import margin_scale
from segrobust.functional.norms import DUAL, NormName, norm, per_image
from segrobust.functional.projections import project
from segrobust.functional.schedules import cosine_decay
from segrobust.functional.steps import steepest_ascent

WEIGHT_RATE = 0.1
MAX_WEIGHT = 20.0
SHARPNESS = 4.0  # of the sigmoid, which ignores pixels far beyond their boundary
TEMPERATURE = 0.2  # of the smooth maximum over competitors, in mean absolute margins
GRADIENT_MEMORY = 0.5
INERTIA = 0.25
SHRINK = (0.25, 0.01)  # gamma at the start and at the end
STEP = (0.5, 0.03)  # share a of the radius at the start and at the end
LEAST_GROWTH = 0.02  # of the radius before the first success, per pass
OVERALL_GROWTH = 1.5  # the same over all passes, from the first-order distance
OVERALL_GROWTH_KNOWN = 0.5  # and from a radius that the caller gives
GROWTH_BY_SHARE = 0.3  # that much more, times the share of unbroken pixels
OVERALL_GROWTH_BY_SHARE = 6.0  # the same over all passes, with targets and no pixels to keep
PATIENCE = 3  # failures in a row before the radius grows
STALLED = 10  # iterates in a row farther from the first success than an earlier one, before the radius returns
BELOW_BEST = 1e-3  # the radius stays that much below the smallest norm found


@dataclass
class LagrangianFMNState:
    """State of Lagrangian FMN; the image comes first in every tensor."""

    weights: Tensor  # (B, H, W) u
    pulls: Tensor  # (B, H, W) u w
    scale: Tensor  # (B,) s
    average: Tensor  # (B, C, H, W) m
    previous: Tensor  # (B, C, H, W) perturbation before the current one
    excess: Tensor  # (B,) weighted sum of the positive margins
    radius: Tensor  # (B,) t
    smallest: Tensor  # (B,) smallest norm of a success
    failures: Tensor  # (B,) failures in a row
    nearest: Tensor  # (B,) smallest shortfall so far
    nearest_radius: Tensor  # (B,) radius there
    stalled: Tensor  # (B,) iterates since that were farther


@dataclass(frozen=True, kw_only=True)
class LagrangianFMN(IterativeAttack[LagrangianFMNState]):
    """Lagrangian FMN, minimal-norm, l_inf or l2, untargeted or targeted: few passes, no step size to set.

    Only the number of passes has to be chosen: 50 for monitoring during training, 100 in general, 300 for the smallest
    norms. Everything else follows from the scale of margins and gradients; see the module's docstring.

    Args:
        num_passes: (forwards + backwards) / 2 that an image may cost, judging included; at least 2.
        norm: `"linf"` or `"l2"`.
        criterion: when a pixel, and when an image, is broken.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> result = LagrangianFMN(num_passes=20)(network, images, labels)
        >>> result.success.tolist(), bool((result.norm < 0.1).all())
        ([True, True], True)
    """

    minimal_norm: ClassVar[bool] = True
    accepts_initial_eps: ClassVar[bool] = True

    num_passes: int = 100
    norm: NormName = "linf"
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        if self.num_passes < 2:
            raise ValueError(f"num_passes must be at least 2, one to step and one to judge, got {self.num_passes}")
        check_attack_fields(("linf", "l2"), self.norm, None, self.num_steps)

    @property
    def num_steps(self) -> int:
        """Gradient steps: the last pass is the forward of the last iterate and that of the final judgement."""
        return self.num_passes - 1

    @property
    def step_budget(self) -> int:
        """The field `num_passes`."""
        return self.num_passes

    def with_step_budget(self, steps: int) -> Attack:
        """The same attack with another `num_passes`."""
        return replace(self, num_passes=steps)

    def init(self, problem: Problem) -> tuple[Tensor, LagrangianFMNState]:
        """Starts at zero, or at the warm start, with equal weights."""
        delta = problem.start_or_zero
        weights = problem.valid_mask.to(problem.images.dtype)
        scalars = torch.zeros_like(problem.images[:, 0, 0, 0])
        return delta, LagrangianFMNState(
            weights=weights,
            pulls=weights,
            scale=scalars,
            average=torch.zeros_like(delta),
            previous=delta,
            excess=scalars,
            radius=norm(delta, self.norm),
            smallest=torch.full_like(scalars, torch.inf),
            failures=scalars,
            nearest=torch.full_like(scalars, torch.inf, dtype=torch.float64),
            nearest_radius=scalars,
            stalled=scalars,
        )

    def observe(self, problem: Problem, iterate: Iterate, state: LagrangianFMNState) -> LagrangianFMNState:
        """The weights of the pixels, the smallest norm, and the failures in a row."""
        margins = self.criterion.margins(iterate.logits, problem)
        scale = self._scale(margins, iterate.logits, problem)
        margins = margins / scale[:, None, None]
        weights = state.weights
        if iterate.step > 0:
            factor = (WEIGHT_RATE * margins.tanh()).exp_()
            weights = (weights * factor).clamp_(1 / MAX_WEIGHT, MAX_WEIGHT) * problem.valid_mask
        pulls = weights * sigmoid(SHARPNESS * margins)
        smaller = iterate.success & (iterate.norm < state.smallest)
        nearer, farther = iterate.shortfall < state.nearest, iterate.shortfall > state.nearest
        return replace(
            state,
            weights=weights,
            pulls=pulls,
            scale=scale,
            excess=(pulls * margins.clamp_min(0)).sum((1, 2)),
            smallest=torch.where(smaller, iterate.norm, state.smallest),
            failures=torch.where(iterate.success, 0, state.failures + 1),
            nearest=torch.where(nearer, iterate.shortfall, state.nearest),
            nearest_radius=torch.where(nearer, state.radius, state.nearest_radius),
            stalled=torch.where(nearer, 0, state.stalled + farther),
        )

    def objective(self, problem: Problem, iterate: Iterate, state: LagrangianFMNState) -> Tensor:
        """Minus the weighted sum of the smooth margins."""
        margins = self.criterion.smooth_margins(iterate.logits, problem, TEMPERATURE * state.scale)
        return -(state.pulls * margins).sum((1, 2)) / state.scale

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: LagrangianFMNState) -> Tensor:
        """The next radius, and a step towards the steepest descent of the averaged margins inside it."""
        end = self.num_steps + 1
        dual_norm = norm(gradient, DUAL[self.norm]).clamp_min(1e-30)
        self._control_radius(problem, iterate, state, dual_norm, cosine_decay(*SHRINK, iterate.step, end))
        state.average = torch.lerp(gradient / per_image(dual_norm, gradient), state.average, GRADIENT_MEMORY)
        length = per_image(cosine_decay(*STEP, iterate.step, end) * state.radius, gradient)
        delta = iterate.delta
        step = self._project(problem, delta + length * steepest_ascent(state.average, self.norm), state) - delta
        inertia = delta - state.previous
        state.previous = delta
        return self._project(problem, delta + torch.lerp(step, inertia, INERTIA), state)

    def done(self, problem: Problem, iterate: Iterate, state: LagrangianFMNState) -> Tensor:
        """Images that are broken at norm 0."""
        return iterate.success & (iterate.norm == 0)

    def _control_radius(
        self, problem: Problem, iterate: Iterate, state: LagrangianFMNState, dual_norm: Tensor, gamma: float
    ) -> None:
        if iterate.step == 0:  # as given, or the first-order distance; at least the norm of a warm start
            reach = state.excess / dual_norm if problem.eps is None else problem.eps
            reach = torch.minimum(reach, norm(problem.upper - problem.lower, self.norm))
            state.radius = state.nearest_radius = torch.maximum(reach, state.radius)
        else:
            unmet = self._grown(problem, iterate, state)
            grown = torch.where(state.failures >= PATIENCE, state.radius * (1 + gamma), state.radius)
            state.radius = torch.where(state.smallest.isinf(), unmet, grown)
        state.radius = torch.where(iterate.success, state.smallest * (1 - gamma), state.radius)
        state.radius = torch.minimum(state.radius, state.smallest * (1 - BELOW_BEST))

    def _grown(self, problem: Problem, iterate: Iterate, state: LagrangianFMNState) -> Tensor:
        """The radius before the first success, larger while that brings the image nearer to it."""
        overall = OVERALL_GROWTH if problem.eps is None else OVERALL_GROWTH_KNOWN
        least, by_share = max(LEAST_GROWTH, overall / self.num_passes), GROWTH_BY_SHARE
        if self.criterion.sign < 0 and not self.criterion.localized:
            least, by_share = overall / self.num_passes, min(by_share, OVERALL_GROWTH_BY_SHARE / self.num_passes)
        unbroken = 1 - torch.fmin(*self.criterion.shares(iterate.broken, problem))
        grown = state.radius * (1 + least + by_share * unbroken)
        held = torch.where(state.stalled == STALLED, state.nearest_radius, state.radius)
        return torch.where(state.stalled >= STALLED, held, grown)

    def _scale(self, margins: Tensor, logits: Tensor, problem: Problem) -> Tensor:
        """The smallest scale of a part that has pixels: `(B,)`."""
        scales = []
        for part in self.criterion.parts(problem):
            empty = ~part.pixels.flatten(1).any(1)
            scales.append(margin_scale(margins, part.pixels, logits).masked_fill(empty, torch.inf))
        return torch.stack(scales).amin(0)

    def _project(self, problem: Problem, delta: Tensor, state: LagrangianFMNState) -> Tensor:
        return project(delta, state.radius, self.norm, problem.lower, problem.upper)
