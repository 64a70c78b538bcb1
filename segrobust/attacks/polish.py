"""Smaller norms from the result of any l_inf attack, by clipping it: forwards only."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Observer, Tracker
from segrobust.attacks.core.wrapper import Wrapper
from segrobust.functional.projections import project


@dataclass(frozen=True, kw_only=True)
class Polished(Wrapper):
    """Bisection of `clip(delta, -t, t)` over t, from the result of an l_inf attack; minimal-norm.

    Only perturbations that succeed are returned, so the result is never worse than that of the attack. Images that the
    attack does not break cost nothing.

    Args:
        attack: minimal-norm, or fixed-budget with a radius of its own; l_inf.
        num_forwards: judged forwards per image.
        smallest: smallest t of the search, as a share of the norm found; use 0.95 for minimal norms that are nearly
            tight, smaller shares for fixed-budget attacks.
    """

    minimal_norm: ClassVar[bool] = True

    num_forwards: int = 6
    smallest: float = 0.95

    def __post_init__(self) -> None:
        name = type(self.attack).__name__
        if self.attack.norm != "linf":
            raise ValueError(f"clipping shortens the l_inf norm only; {name} is an attack in {self.attack.norm!r}")
        if not self.attack.minimal_norm and self.attack.default_eps is None:
            raise ValueError(f"a polished fixed-budget attack needs a radius of its own: set eps of {name}")
        if self.num_forwards < 1:
            raise ValueError(f"num_forwards must be at least 1, got {self.num_forwards}")
        if not 0 <= self.smallest < 1:
            raise ValueError(f"smallest is a share of the norm in [0, 1), got {self.smallest}")

    @property
    def max_passes(self) -> tuple[float, float]:
        """The passes of the attack inside, and the forwards of the bisection."""
        forwards, backwards = self.attack.max_passes
        return forwards + self.num_forwards, backwards

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """The attack, then the bisection of all broken images together, each over its own radius."""
        inner = self.attack.run(oracle, problem, observer)
        tracker = Tracker(problem.images, minimal_norm=True, observer=observer)
        tracker.merge(torch.arange(problem.batch_size), inner)
        rows = (inner.best.success & (inner.best.norm > 0)).cpu().nonzero()[:, 0]
        if len(rows) == 0:
            return tracker
        oracle, problem = oracle.select(rows), problem.select(rows)
        places = rows.to(problem.images.device)
        delta, high = inner.best.delta[places], inner.best.norm[places]
        low = self.smallest * high
        first = int(inner.num_judged.max())
        for step in range(first, first + self.num_forwards):
            middle = (low + high) / 2
            clipped = project(delta, middle, "linf", problem.lower, problem.upper)
            logits = oracle.logits(clipped, differentiable=False)
            iterate = self.iterate(problem, step, rows, clipped, logits)
            tracker.update(iterate)
            low, high = low.where(iterate.success, middle), middle.where(iterate.success, high)
        return tracker
