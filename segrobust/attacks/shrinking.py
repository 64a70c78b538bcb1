"""Fixed-budget attacks in stages of shrinking radius: larger balls make it easier to break pixels.

Source: F. Croce, N. Singh, M. Hein, "Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation
Models", ECCV 2024 (arXiv 2306.12941), section 3 ("red-eps").
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import torch

from segrobust.attacks.apgd import APGD
from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Observer, Tracker
from segrobust.attacks.core.wrapper import Wrapper
from segrobust.functional.projections import project


@dataclass(frozen=True, kw_only=True)
class ShrinkingRadius(Wrapper):
    """An attack run in stages of shrinking radius, fixed-budget (SEA's schedule, ECCV 2024).

    The steps of the attack are divided among the stages. Each stage starts from the perturbation that broke most pixels
    in the stage before, projected into its own ball. Only the last stage, whose radius is that of the call, counts.
    Each stage after the first costs one additional forward.

    Args:
        attack: fixed-budget, with a number of steps.
        factors: radius of each stage over that of the call, decreasing to 1.
        shares: share of the steps of each stage; they sum to 1.
    """

    minimal_norm: ClassVar[bool] = False

    attack: Attack = field(default_factory=lambda: APGD(num_steps=300))
    factors: tuple[float, ...] = (2.0, 1.5, 1.0)
    shares: tuple[float, ...] = (0.3, 0.3, 0.4)

    def __post_init__(self) -> None:
        name = type(self.attack).__name__
        if self.attack.minimal_norm or self.attack.step_budget is None:
            raise ValueError(f"stages need a fixed-budget attack with num_steps, such as APGD(); got {name}")
        if len(self.factors) != len(self.shares) or not self.factors:
            raise ValueError(f"give as many shares as factors, got {self.shares} and {self.factors}")
        if self.factors[-1] != 1 or any(later >= earlier for earlier, later in pairwise(self.factors)):
            raise ValueError(f"factors must decrease and end with 1, got {self.factors}")
        if abs(sum(self.shares) - 1) > 1e-6 or min(self.stage_steps) < 1:
            raise ValueError(
                f"shares must sum to 1 and leave each stage at least one of {name}'s steps, got {self.shares}"
            )

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Steps of each stage; the last one gets the remainder."""
        total = self.attack.step_budget
        assert total is not None, "checked at construction"
        early = [int(share * total + 1e-9) for share in self.shares[:-1]]
        return (*early, total - sum(early))

    @property
    def max_passes(self) -> tuple[float, float]:
        """The passes of the attack inside, and one forward for every stage after the first."""
        forwards, backwards = self.attack.max_passes
        return forwards + len(self.factors) - 1, backwards

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """The stages in turn, all images together."""
        eps = problem.required_eps(type(self).__name__)
        tracker = Tracker(problem.images, minimal_norm=False)
        start = problem.start
        for factor, num_steps in zip(self.factors, self.stage_steps, strict=True):
            radii = eps * factor
            stage = self.attack.with_step_budget(num_steps)
            if start is not None:
                start = project(start, radii, self.norm, problem.lower, problem.upper)
            inner = stage.run(oracle, replace(problem, eps=radii, start=start), observer)
            start = inner.best.delta
            if factor > 1:
                tracker.num_judged += inner.num_judged
        tracker.merge(torch.arange(problem.batch_size), inner)
        return tracker
