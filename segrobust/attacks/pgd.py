"""Projected gradient descent, the fixed-budget attack that others are measured by."""

from dataclasses import dataclass

import torch
from torch import Tensor

from segrobust.attacks.ball import BallAttack
from segrobust.attacks.problem import Problem
from segrobust.attacks.random_start import random_start


@dataclass(frozen=True, kw_only=True)
class PGD(BallAttack):
    """PGD, fixed-budget, l_inf or l2, untargeted or targeted (Madry et al., ICLR 2018).

    `delta <- project(delta + step * ascent(gradient of the summed pixel losses))`, with the sign of the gradient for
    l_inf and the normalised gradient for l2. Of all iterates, the last one included, the one that breaks most pixels is
    returned. An image whose valid pixels are all broken stops.

    Args:
        num_steps: gradient steps.
        eps: radius, image units; None if every call gives its own.
        step_size: step, in the units of the norm; None for `2.5 eps / num_steps`, at most eps.
        norm: `"linf"` or `"l2"`.
        loss: `"ce"`, `"margin"` (difference of logits) or `"dlr"`.
        random_start: start at a random point of the ball (uniform for l_inf; uniform direction and radius for l2);
            needs `sample_ids`.
        seed: of the random start, together with the sample id.
        criterion: what breaks a pixel and how many make a success.
    """

    num_steps: int = 40
    step_size: float | None = None
    random_start: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is not None and self.step_size <= 0:
            raise ValueError(f"step_size must be positive, got {self.step_size}; use None for 2.5 eps / num_steps")
        if self.seed and not self.random_start:
            raise ValueError(f"seed={self.seed} has no effect without random_start=True")

    def init(self, problem: Problem) -> tuple[Tensor, None]:
        """The warm start, a random point of the ball, or zero."""
        if problem.start is None and self.random_start:
            return self.project(problem, random_start(problem, self.radius(problem), self.norm, self.seed)), None
        return super().init(problem)

    def step_lengths(self, problem: Problem) -> Tensor:
        """Length of a step of each image: `(B,)`."""
        eps = self.radius(problem)
        return eps * min(2.5 / self.num_steps, 1.0) if self.step_size is None else torch.full_like(eps, self.step_size)
