"""The common parts of fixed-budget gradient attacks: ball, first point, objective and step."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import Attack, check_attack_fields
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack, State
from segrobust.attacks.core.losses import PixelLoss, Pixels, check_loss
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.random_start import random_start
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName, per_image
from segrobust.functional.projections import project
from segrobust.functional.steps import steepest_ascent


@dataclass(frozen=True, kw_only=True)
class BallAttack(IterativeAttack[State]):
    """A fixed-budget attack that maximises a sum of pixel losses inside a ball, by projected steps.

    The loss is the field `loss`, unless an attack overrides `pixel_losses`. A step is steepest ascent without memory,
    unless it overrides `update`: `delta <- project(delta + step * ascent(gradient))`, where the ascent direction is the
    sign of the gradient in l_inf, and the gradient over its norm in l2.

    Args:
        eps: radius, image units; None if each call passes its own.
        norm: one of the attack's norms.
        criterion: when a pixel, and when an image, is broken.
    """

    minimal_norm: ClassVar[bool] = False
    norms: ClassVar[tuple[NormName, ...]] = ("linf", "l2")

    if TYPE_CHECKING:  # fields of attacks that may start at random, constants of others

        @property
        def random_start(self) -> bool: ...  # noqa: D102

        @property
        def seed(self) -> int: ...  # noqa: D102

        @property
        def loss(self) -> PixelLoss: ...  # noqa: D102

    eps: Length | None = None
    norm: NormName = "linf"
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        check_attack_fields(self.norms, self.norm, self.eps, self.num_steps)
        if self.seed and not self.random_start:
            raise ValueError(f"seed={self.seed} has no effect without random_start=True")
        if self.has_field("loss"):
            check_loss(self.loss)

    @property
    def start_seed(self) -> int | None:
        """The field `seed`."""
        return self.seed if self.has_field("seed") else None

    def with_start_seed(self, seed: int) -> Attack:
        """The same attack with another `seed`, and with a random start if that is a choice."""
        changes: dict[str, Any] = {"seed": seed}
        if self.has_field("random_start"):
            changes["random_start"] = True
        return replace(self, **changes)

    def first(self, problem: Problem) -> Tensor:
        """The warm start projected into the ball, a random point of it, or zero: `(B, C, H, W)`."""
        if problem.start is not None:
            return self.project(problem, problem.start)
        if self.random_start:
            return self.project(problem, random_start(problem, self.radius(problem), self.norm, self.seed))
        return torch.zeros_like(problem.images)

    def pixel_losses(self, problem: Problem, iterate: Iterate, state: State) -> Tensor:
        """The loss of every pixel: `(B, H, W)`; losses of void pixels are ignored."""
        del state
        return self.loss(Pixels.of(problem, iterate, self.criterion, self.num_steps))

    def objective(self, problem: Problem, iterate: Iterate, state: State) -> Tensor:
        """Sum of the losses of the valid pixels: `(B,)`."""
        return (self.pixel_losses(problem, iterate, state) * problem.valid_mask).sum((1, 2))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: State) -> Tensor:
        """One projected step of steepest ascent."""
        step = per_image(self.step_lengths(problem), gradient)
        return self.project(problem, iterate.delta + step * steepest_ascent(gradient, self.norm))

    def step_lengths(self, problem: Problem) -> Tensor:
        """Length of a step of each image, in the units of the norm: `(B,)`; by default the radius."""
        return self.radius(problem)

    def done(self, problem: Problem, iterate: Iterate, state: State) -> Tensor:
        """Images whose valid pixels are all broken."""
        return iterate.num_broken == problem.num_valid

    def radius(self, problem: Problem) -> Tensor:
        """Radii `(B,)` of this call."""
        return problem.required_eps(type(self).__name__)

    def project(self, problem: Problem, delta: Tensor) -> Tensor:
        """The projection into ball and box."""
        return project(delta, self.radius(problem), self.norm, problem.lower, problem.upper)
