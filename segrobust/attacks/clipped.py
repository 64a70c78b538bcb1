"""A minimal-norm attack as a fixed-budget one: its perturbation, projected into the ball."""

from dataclasses import dataclass, replace
from typing import ClassVar

from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem, check_eps
from segrobust.attacks.core.tracker import Observer, Tracker
from segrobust.attacks.core.wrapper import Wrapper
from segrobust.functional.lengths import Length
from segrobust.functional.projections import project


@dataclass(frozen=True, kw_only=True)
class Clipped(Wrapper):
    """The result of a minimal-norm attack projected into the ball, fixed-budget (as in RSE, ECCV 2024).

    This is a weak attack: a larger perturbation, found without a bound, loses most of its effect by the projection. It
    costs one forward more than the attack inside.

    Args:
        attack: minimal-norm.
        eps: radius, image units; None if each call passes its own.
    """

    minimal_norm: ClassVar[bool] = False

    eps: Length | None = None

    def __post_init__(self) -> None:
        if not self.attack.minimal_norm:
            raise ValueError(f"Clipped needs a minimal-norm attack; {type(self.attack).__name__} already has a radius")
        if self.eps is not None:
            check_eps(self.eps, self.norm)

    @property
    def default_eps(self) -> float | None:
        """The field `eps`."""
        return self.eps

    @property
    def max_passes(self) -> tuple[float, float]:
        """The passes of the attack inside, and one forward."""
        forwards, backwards = self.attack.max_passes
        return forwards + 1, backwards

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """The attack inside, then one pass over its clipped results."""
        eps = problem.required_eps(type(self).__name__)
        inner = self.attack.run(oracle, replace(problem, eps=None), observer)  # the search is not bounded
        tracker = Tracker(problem.images, minimal_norm=False, observer=observer)
        tracker.num_judged += inner.num_judged
        rows = problem.num_valid.cpu().nonzero()[:, 0]
        if len(rows) == 0:
            return tracker
        problem = problem.select(rows)
        places = rows.to(eps.device)
        delta = project(inner.best.delta[places], eps[places], self.norm, problem.lower, problem.upper)
        logits = oracle.select(rows).logits(delta, differentiable=False)
        tracker.update(self.iterate(problem, 0, rows, delta, logits))
        return tracker
