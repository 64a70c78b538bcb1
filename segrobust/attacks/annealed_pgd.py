r"""Annealed PGD: projected gradient descent whose radius and temperature fall, with one number to choose.

    maximise the number of broken pixels   subject to   ||delta|| <= eps,   x + delta in [0, 1]

The count has no slope, and its softened form (`SoftCount`) has many maxima. Both constraints of the search are
therefore relaxed at first, and tightened while it runs:

- **Radius.** Over the first 60 % of the steps it falls linearly from 2 eps to eps. In the larger ball more pixels
  break, and each iterate is projected into a ball that is hardly smaller than the one before: the perturbation keeps
  what still holds. SEA's schedule (ECCV 2024) goes through the same radii in three stages, whose projections undo a
  part of what was found. Only iterates inside eps count.
- **Temperature** of the loss: see `segrobust.attacks.core.soft_count`.

A pass, with q the share of the steps so far, T(q) the temperature, R(q) the radius, P_q the projection onto ball and
box, and a(q) falling from 0.5 to 0.02 as half a cosine:

1. g = gradient of the sum of pixel losses at T(q); over its dual norm it is averaged: m <- (m + g / ||g||*) / 2. A
   gradient over its norm does not depend on the number of pixels that pull, which falls with the temperature.
2. s = P(delta + a(q) R(q) ascent(m)) - delta, where the ascent direction is the sign in l_inf, and m over its norm in
   l2.
3. delta <- P(delta + (3 s + (delta - delta_previous)) / 4), an inertia of 1/4.

The first steps cross half the ball, the last ones 2 % of it, whatever their number.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.ball import BallAttack
from segrobust.attacks.core.losses import PixelLoss
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.random_start import random_start
from segrobust.attacks.core.soft_count import SoftCount
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.norms import DUAL, norm, per_image
from segrobust.functional.projections import project
from segrobust.functional.schedules import cosine_decay
from segrobust.functional.steps import steepest_ascent

FIRST_RADIUS: Final = 2.0  # in eps
GLIDE: Final = 0.6  # share of the steps over which the radius falls to eps
STEP: Final = (0.5, 0.02)  # length over radius, at the start and at the end
GRADIENT_MEMORY: Final = 0.5
INERTIA: Final = 0.25


@dataclass
class AnnealedPGDState:
    """State of annealed PGD; the image comes first in every tensor."""

    average: Tensor  # (B, C, H, W) m
    previous: Tensor  # (B, C, H, W) perturbation before the current one


@dataclass(frozen=True, kw_only=True)
class AnnealedPGD(BallAttack[AnnealedPGDState]):
    """Annealed PGD, fixed-budget, l_inf or l2, untargeted or targeted: few passes, no step size to set.

    Only the number of passes has to be chosen: 25 for monitoring during training, 50 in general, 100 to 900 for the
    lowest accuracy. Everything else follows from the radius and the scale of the margins; see the module's docstring.

    Args:
        num_passes: (forwards + backwards) / 2 that an image may cost, judging included; at least 2.
        eps: radius, image units; None if each call passes its own.
        norm: `"linf"` or `"l2"`.
        loss: the `PixelLoss` to maximise.
        random_start: start at a random point of the first ball, of radius 2 eps, instead of zero.
        seed: of the random start, together with the sample id.
        criterion: when a pixel, and when an image, is broken.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> result = AnnealedPGD(num_passes=20, eps=0.1)(network, images, labels)
        >>> result.success.tolist(), bool((result.norm <= 0.1 + 1e-6).all())
        ([True, True], True)
    """

    loss: PixelLoss = field(default_factory=SoftCount)
    num_passes: int = 50
    random_start: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_passes < 2:
            raise ValueError(f"num_passes must be at least 2, one to step and one to judge, got {self.num_passes}")
        super().__post_init__()

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

    def init(self, problem: Problem) -> tuple[Tensor, AnnealedPGDState]:
        """Starts at zero, at a random point, or at the warm start, in the first ball."""
        delta = problem.start_or_zero
        if problem.start is None and self.random_start:
            delta = random_start(problem, self._radii(problem, 0), self.norm, self.seed)
        delta = self._project(problem, delta, 0)
        return delta, AnnealedPGDState(average=torch.zeros_like(delta), previous=delta)

    def iterate(self, problem: Problem, step: int, rows: Tensor, delta: Tensor, logits: Tensor) -> Iterate:
        """The iterate, which is no candidate outside the ball of radius eps."""
        iterate = super().iterate(problem, step, rows, delta, logits)
        if self._factor(step) == 1:
            return iterate
        inside = iterate.norm <= self.radius(problem)
        return replace(
            iterate, success=iterate.success & inside, num_broken=iterate.num_broken.masked_fill(~inside, -1)
        )

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: AnnealedPGDState) -> Tensor:
        """A step along the averaged gradient with inertia, into the next ball."""
        step, delta = iterate.step, iterate.delta
        dual_norm = norm(gradient, DUAL[self.norm]).clamp_min(1e-30)
        state.average = torch.lerp(gradient / per_image(dual_norm, gradient), state.average, GRADIENT_MEMORY)
        length = cosine_decay(*STEP, step, self.num_steps) * self._radii(problem, step)
        ascent = per_image(length, delta) * steepest_ascent(state.average, self.norm)
        moved = self._project(problem, delta + ascent, step + 1) - delta
        inertia = delta - state.previous
        state.previous = delta
        return self._project(problem, delta + torch.lerp(moved, inertia, INERTIA), step + 1)

    def _factor(self, step: int) -> float:
        """The radius at a step over eps: exactly 1 once it has fallen."""
        fallen = min(step / (GLIDE * self.num_steps), 1.0)
        return FIRST_RADIUS + (1 - FIRST_RADIUS) * fallen

    def _radii(self, problem: Problem, step: int) -> Tensor:
        return self._factor(step) * self.radius(problem)

    def _project(self, problem: Problem, delta: Tensor, step: int) -> Tensor:
        return project(delta, self._radii(problem, step), self.norm, problem.lower, problem.upper)
