"""What fixed-budget gradient attacks share: a ball, where they start in it, and the pixel loss that they climb."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_attack_fields
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack, State
from segrobust.attacks.core.losses import CrossEntropy, PixelLoss, Pixels, check_loss
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.random_start import random_start
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName
from segrobust.functional.projections import project


@dataclass(frozen=True, kw_only=True)
class BallAttack(IterativeAttack[State]):
    """A fixed-budget attack that stays inside a ball.

    Args:
        eps: radius, image units; None if every call gives its own.
        norm: one of the attack's norms.
        criterion: what breaks a pixel and how many make a success.
    """

    minimal_norm: ClassVar[bool] = False
    norms: ClassVar[tuple[NormName, ...]] = ("linf", "l2")

    if TYPE_CHECKING:  # fields of attacks that may start at random, constants of others

        @property
        def random_start(self) -> bool: ...  # noqa: D102

        @property
        def seed(self) -> int: ...  # noqa: D102

    eps: Length | None = None
    norm: NormName = "linf"
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        check_attack_fields(self.norms, self.norm, self.eps, self.num_steps)
        if self.seed and not self.random_start:
            raise ValueError(f"seed={self.seed} has no effect without random_start=True")

    @property
    def default_eps(self) -> float | None:
        """The field `eps`."""
        return self.eps

    def first(self, problem: Problem) -> Tensor:
        """The warm start projected into the ball, a random point of it, or zero: `(B, C, H, W)`."""
        if problem.start is not None:
            return self.project(problem, problem.start)
        if self.random_start:
            return self.project(problem, random_start(problem, self.radius(problem), self.norm, self.seed))
        return torch.zeros_like(problem.images)

    def done(self, problem: Problem, iterate: Iterate, state: State) -> Tensor:
        """Nothing is left to win once all valid pixels are broken."""
        return iterate.num_broken == problem.num_valid

    def radius(self, problem: Problem) -> Tensor:
        """Radii `(B,)` of this call."""
        return problem.required_eps(type(self).__name__)

    def project(self, problem: Problem, delta: Tensor) -> Tensor:
        """A point of ball and box."""
        return project(delta, self.radius(problem), self.norm, problem.lower, problem.upper)


@dataclass(frozen=True, kw_only=True)
class PixelLossAttack(BallAttack[State]):
    """An attack inside a ball that climbs the sum of a pixel loss over the valid pixels.

    Args:
        eps: radius, image units; None if every call gives its own.
        norm: one of the attack's norms.
        loss: what is climbed, a `PixelLoss`.
        criterion: what breaks a pixel and how many make a success.
    """

    loss: PixelLoss = field(default_factory=CrossEntropy)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loss(self.loss)

    def objective(self, problem: Problem, iterate: Iterate, state: State) -> Tensor:
        """Sum of the losses of the valid pixels: `(B,)`."""
        pixels = Pixels.of(problem, iterate, self.criterion, self.num_steps)
        return (self.loss(pixels) * pixels.valid).sum((1, 2))
