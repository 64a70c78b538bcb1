"""Minimal norms from any fixed-budget attack, by bisection over its radius."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_choice
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem, check_eps
from segrobust.attacks.core.tracker import Observer, Tracker
from segrobust.attacks.core.wrapper import Wrapper
from segrobust.functional.lengths import Length
from segrobust.functional.projections import project

GROWTH = 4.0  # of the radius before the first success

Bisection = Literal["log", "linear"]


@dataclass(frozen=True, kw_only=True)
class MinimalNormSearch(Wrapper):
    """Smallest radius at which a fixed-budget attack succeeds, by bisection for each image.

    A round starts from the best perturbation so far, projected into the new ball, and an image leaves its round at its
    first success. The radius of an image starts at `initial_eps` and is multiplied by 4 after each failure; after a
    failure at `max_eps` it is twice the first. From the first success on it is the smallest norm found divided by a
    ratio that starts at 2 and becomes its square root after each failure: bisection in log scale, except that no
    failure is final, since a round that starts from a better perturbation may succeed where another failed.

    The baselines of Rony et al., CVPR 2023, bisect radii in linear scale from 0 and twice the largest, and start each
    round from the clean image: `bisection="linear", warm_start=False`, around MI-FGSM with 20 steps, `PGD(num_steps=40,
    step_ratio=1 / 30)`, or four `Restarts` of `PGD(num_steps=10, step_ratio=1 / 8)`.

    Args:
        attack: the fixed-budget attack; each round calls it with the radii of that round.
        num_rounds: calls of the attack.
        initial_eps: first radius, in the units of the norm; None for 4/255 in l_inf, and in l2 for the norm of a
            perturbation of 1/255 in every value; in linear scale for the largest radius.
        max_eps: largest radius; an image that is not broken there is a failure. None for the radius that contains the
            whole box.
        warm_start: whether rounds start from the best perturbation so far.
        bisection: `"log"`, or `"linear"`: the mean of the largest radius that failed and the smallest that did not.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> result = MinimalNormSearch(attack=PGD(num_steps=10), num_rounds=8)(network, images, labels)
        >>> result.success.tolist(), bool((result.norm < 0.2).all())
        ([True, True], True)
    """

    minimal_norm: ClassVar[bool] = True

    num_rounds: int = 13
    initial_eps: Length | None = None
    max_eps: Length | None = None
    warm_start: bool = True
    bisection: Bisection = "log"

    def __post_init__(self) -> None:
        if self.attack.minimal_norm:
            raise ValueError(f"a search needs a fixed-budget attack, {type(self.attack).__name__} is minimal-norm")
        if self.attack.default_eps is not None:
            name = type(self.attack).__name__
            raise ValueError(
                f"the search chooses the radius: leave eps of {name} at None, got {self.attack.default_eps}"
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
    def max_passes(self) -> tuple[float, float]:
        """The passes of the attack inside in each round."""
        forwards, backwards = self.attack.max_passes
        return self.num_rounds * forwards, self.num_rounds * backwards

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """Rounds of the attack inside, all images together, each with its own radius."""
        tracker = Tracker(problem.images, minimal_norm=True)
        rows = torch.arange(problem.batch_size)
        size = problem.images[0].numel()
        largest = (1.0 if self.norm == "linf" else size**0.5) if self.max_eps is None else self.max_eps
        eps = torch.full_like(tracker.best.norm, self._first_radius(size, largest))
        radii = (_LogRadii if self.bisection == "log" else _LinearRadii)(eps, largest)
        for _ in range(self.num_rounds):
            start = self._start(problem, tracker, eps)
            inner = self.attack.run(oracle, replace(problem, eps=eps, start=start, stop_on_success=True), observer)
            tracker.merge(rows, inner)
            # A success at norm 0 (the clean image is broken) cannot be improved: any positive radius will do.
            eps = radii.after(eps, inner.best.success, tracker.best.norm).clamp(1e-9, largest)
        return tracker

    def _first_radius(self, size: int, largest: float) -> float:
        if self.initial_eps is not None:
            return self.initial_eps
        if self.bisection == "linear":
            return largest
        return min(4 / 255 if self.norm == "linf" else size**0.5 / 255, largest)

    def _start(self, problem: Problem, tracker: Tracker, eps: Tensor) -> Tensor | None:
        """Best perturbation so far, projected into the new ball; None before the first round."""
        known = tracker.best.num_broken >= 0
        if not self.warm_start or not known.any():
            return problem.start
        return project(tracker.best.delta, eps, self.norm, problem.lower, problem.upper)


class _LinearRadii:
    """The mean of the largest radius that failed and the smallest that did not."""

    def __init__(self, first: Tensor, largest: float) -> None:
        self._failed = torch.zeros_like(first)
        self._succeeded = torch.full_like(first, 2 * largest)

    def after(self, eps: Tensor, success: Tensor, smallest: Tensor) -> Tensor:
        """Next radii, from the success at the last ones and the smallest norms found: `(B,)` each."""
        del smallest
        self._failed = torch.where(success, self._failed, torch.maximum(self._failed, eps))
        self._succeeded = torch.where(success, torch.minimum(self._succeeded, eps), self._succeeded)
        return (self._failed + self._succeeded) / 2


class _LogRadii:
    """Growing radii until the first success, then radii below the smallest norm found."""

    def __init__(self, first: Tensor, largest: float) -> None:
        self._first, self._largest = first, largest
        self._ratio = torch.full_like(first, 2.0)  # of the smallest norm found to the next radius
        self._found = torch.zeros_like(first, dtype=torch.bool)

    def after(self, eps: Tensor, success: Tensor, smallest: Tensor) -> Tensor:
        """Next radii, from the success at the last ones and the smallest norms found: `(B,)` each."""
        self._ratio = torch.where(self._found & ~success, self._ratio.sqrt(), self._ratio)
        self._found = self._found | success
        grown = torch.where(eps < self._largest, GROWTH * eps, 2 * self._first)
        return torch.where(self._found, smallest / self._ratio, grown)
