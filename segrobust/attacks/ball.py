"""What fixed-budget gradient attacks share: a summed pixel loss and projected steps of steepest ascent."""

from dataclasses import dataclass, field
from typing import ClassVar, get_args

import torch
from torch import Tensor

from segrobust.attacks.base import check_attack_fields, check_choice
from segrobust.attacks.criteria import Criterion, Untargeted
from segrobust.attacks.loop import IterativeAttack
from segrobust.attacks.problem import Problem
from segrobust.attacks.tracker import Iterate
from segrobust.functional.norms import NormName, per_image
from segrobust.functional.pixel_losses import PixelLossName, adversarial_loss
from segrobust.functional.projections import project
from segrobust.functional.steps import steepest_ascent


@dataclass(frozen=True, kw_only=True)
class BallAttack(IterativeAttack[None]):
    """A stateless fixed-budget attack that climbs the sum of a pixel loss inside a ball.

    Args:
        eps: radius, image units; None if every call gives its own.
        norm: `"linf"` or `"l2"`.
        loss: `"ce"`, `"margin"` (difference of logits) or `"dlr"`.
        criterion: what breaks a pixel and how many make a success.
    """

    minimal_norm: ClassVar[bool] = False

    eps: float | None = None
    norm: NormName = "linf"
    loss: PixelLossName = "ce"
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        check_attack_fields(("linf", "l2"), self.norm, self.eps, self.num_steps)
        check_choice("loss", self.loss, get_args(PixelLossName))

    @property
    def radius_field(self) -> float | None:
        """The field `eps`."""
        return self.eps

    def init(self, problem: Problem) -> tuple[Tensor, None]:
        """The warm start projected into the ball, or zero."""
        if problem.start is None:
            return torch.zeros_like(problem.images), None
        return self.project(problem, problem.start), None

    def objective(self, problem: Problem, iterate: Iterate, state: None) -> Tensor:
        """Sum of the losses of the valid pixels: `(B,)`."""
        reference, sign = self.criterion.reference(problem), self.criterion.sign
        losses = adversarial_loss(self.loss, iterate.logits, reference, sign=sign)
        return (losses * problem.valid_mask).sum((1, 2))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: None) -> Tensor:
        """One projected step of steepest ascent."""
        step = per_image(self.step_lengths(problem), gradient)
        return self.project(problem, iterate.delta + step * steepest_ascent(gradient, self.norm))

    def step_lengths(self, problem: Problem) -> Tensor:
        """Length of a step of each image, in the units of the norm: `(B,)`; the radius."""
        return self.radius(problem)

    def done(self, problem: Problem, iterate: Iterate, state: None) -> Tensor:
        """Nothing is left to win once all valid pixels are broken."""
        return iterate.num_broken == problem.num_valid

    def radius(self, problem: Problem) -> Tensor:
        """Radii `(B,)` of this call."""
        return problem.required_eps(type(self).__name__)

    def project(self, problem: Problem, delta: Tensor) -> Tensor:
        """A point of ball and box."""
        return project(delta, self.radius(problem), self.norm, problem.lower, problem.upper)
