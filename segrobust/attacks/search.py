"""Minimal norms from any fixed-budget attack, by bisection over its radius."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from segrobust.attacks.base import Observer, check_choice
from segrobust.attacks.oracle import GradientOracle
from segrobust.attacks.problem import Problem, check_eps
from segrobust.attacks.tracker import Tracker
from segrobust.attacks.wrapper import Wrapper
from segrobust.functional.projections import project

Bisection = Literal["log", "linear"]


@dataclass(frozen=True, kw_only=True)
class MinimalNormSearch(Wrapper):
    """Smallest radius at which a fixed-budget attack succeeds, by bisection, for each image on its own.

    The radius of an image starts at `initial_eps` and is multiplied by 4 until its first success (at most `max_eps`);
    from then on it is bisected between the largest failed radius and the smallest norm found: by their geometric mean,
    or by halves while nothing has failed. A round starts from the best perturbation so far, projected into the new
    ball, and an image leaves its round at its first success.

    The baselines of Rony et al., CVPR 2023, bisect radii in linear scale from 0 and twice the largest, and start each
    round from the clean image: `bisection="linear", warm_start=False`, around MI-FGSM with 20 steps, `PGD(num_steps=40,
    step_ratio=1 / 30)`, or four `Restarts` of `PGD(num_steps=10, step_ratio=1 / 8)`.

    Args:
        attack: the fixed-budget attack; each round calls it with the radii of that round.
        num_rounds: calls of the attack.
        initial_eps: first radius, in the units of the norm; None for 4/255 in l_inf, and in l2 for the norm of a
            perturbation of 1/255 in every value; in linear scale for the largest radius.
        max_eps: largest radius; an image that withstands it is a failure. None for the radius that holds the whole box.
        warm_start: whether rounds start from the best perturbation so far.
        bisection: `"log"`, or `"linear"`: the mean of the largest failed and the smallest successful radius.
    """

    minimal_norm: ClassVar[bool] = True

    num_rounds: int = 13
    initial_eps: float | None = None
    max_eps: float | None = None
    warm_start: bool = True
    bisection: Bisection = "log"

    def __post_init__(self) -> None:
        if self.attack.minimal_norm:
            raise ValueError(f"a search needs a fixed-budget attack, {type(self.attack).__name__} is minimal-norm")
        if self.attack.radius_field is not None:
            name = type(self.attack).__name__
            raise ValueError(
                f"the search chooses the radius: leave eps of {name} at None, got {self.attack.radius_field}"
            )
        check_choice("bisection", self.bisection, get_args(Bisection))
        if self.num_rounds < 1:
            raise ValueError(f"num_rounds must be at least 1, got {self.num_rounds}")
        for radius in (self.initial_eps, self.max_eps):
            if radius is not None:
                check_eps(radius, self.norm)
        if self.initial_eps is not None and self.max_eps is not None and self.initial_eps > self.max_eps:
            raise ValueError(f"initial_eps must not exceed max_eps = {self.max_eps:g}, got {self.initial_eps:g}")

    @property
    def most_passes(self) -> tuple[float, float]:
        """Those of the attack inside in each round."""
        forwards, backwards = self.attack.most_passes
        return self.num_rounds * forwards, self.num_rounds * backwards

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """Rounds of the attack inside, all images together, each with its own radius."""
        tracker = Tracker(problem.images, minimal_norm=True)
        rows = torch.arange(problem.batch_size)
        size = problem.images[0].numel()
        largest = (1.0 if self.norm == "linf" else size**0.5) if self.max_eps is None else self.max_eps
        eps = torch.full_like(tracker.best.norm, self._first_radius(size, largest))
        failed = torch.zeros_like(eps)  # largest radius that failed
        succeeded = torch.full_like(eps, torch.inf)  # smallest that did not
        for _ in range(self.num_rounds):
            start = self._start(problem, tracker, eps)
            inner = self.attack.run(oracle, replace(problem, eps=eps, start=start, stop_on_success=True), observer)
            tracker.merge(rows, inner)
            failed = torch.where(inner.best.success, failed, torch.maximum(failed, eps))
            succeeded = torch.where(inner.best.success, torch.minimum(succeeded, eps), succeeded)
            if self.bisection == "linear":
                eps = (failed + succeeded.clamp_max(2 * largest)) / 2
            else:
                eps = _between(failed, tracker)
            # A success at norm 0 (the clean image is broken) leaves nothing to search: any positive radius serves.
            eps = eps.clamp(1e-9, largest)
        return tracker

    def _first_radius(self, size: int, largest: float) -> float:
        if self.initial_eps is not None:
            return self.initial_eps
        if self.bisection == "linear":
            return largest
        return min(4 / 255 if self.norm == "linf" else size**0.5 / 255, largest)

    def _start(self, problem: Problem, tracker: Tracker, eps: Tensor) -> Tensor | None:
        """Best perturbation so far inside the new ball; nothing before there is one."""
        known = tracker.best.num_broken >= 0
        if not self.warm_start or not known.any():
            return problem.start
        return project(tracker.best.delta, eps, self.norm, problem.lower, problem.upper)


def _between(failed: Tensor, tracker: Tracker) -> Tensor:
    """Radius in log scale between the largest that failed and the smallest norm found, or beyond the former: `(B,)`."""
    found = torch.where(tracker.best.success, tracker.best.norm, torch.nan)
    between = torch.where(failed > 0, (failed * found).sqrt(), found / 2)
    return torch.where(tracker.best.success, between, failed * 4)
