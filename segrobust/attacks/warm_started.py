"""An attack that continues from the result of another one."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from segrobust.attacks.calibrated_alma_prox import CalibratedAlmaProx
from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Observer, Tracker
from segrobust.attacks.core.wrapper import Wrapper
from segrobust.attacks.ensemble import renumbered
from segrobust.attacks.lagrangian_fmn import LagrangianFMN


@dataclass(frozen=True, kw_only=True)
class WarmStarted(Wrapper):
    """A minimal-norm attack from the result of another one; the smaller norm of both counts.

    It costs the passes of both. An image that is broken without perturbation is left out of the second.

    Args:
        attack: the attack that starts from it.
        first: the attack that finds the start; same norm and criterion.
    """

    minimal_norm: ClassVar[bool] = True

    attack: Attack = field(default_factory=lambda: CalibratedAlmaProx(num_steps=74))
    first: Attack = field(default_factory=lambda: LagrangianFMN(num_passes=25))

    def __post_init__(self) -> None:
        for attack in (self.first, self.attack):
            if not attack.minimal_norm:
                raise ValueError(f"WarmStarted needs minimal-norm attacks; {type(attack).__name__} is fixed-budget")
        for trait in ("norm", "criterion"):
            first, second = getattr(self.first, trait), getattr(self.attack, trait)
            if first != second:
                raise ValueError(f"the two attacks must have the same {trait}, got {first!r} and {second!r}")

    @property
    def max_passes(self) -> tuple[float, float]:
        """The sum over both."""
        forwards, backwards = zip(self.first.max_passes, self.attack.max_passes, strict=True)
        return sum(forwards), sum(backwards)

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """The first attack, then the other one from the best perturbation of each image."""
        tracker = self.first.run(oracle, problem, observer)
        best = tracker.best
        rows = ((best.norm > 0) & (problem.num_valid > 0)).cpu().nonzero()[:, 0]
        if len(rows):
            left = replace(problem.select(rows), start=best.delta[rows.to(best.delta.device)])
            tracker.merge(rows, self.attack.run(oracle.select(rows), left, renumbered(observer, rows)))
        return tracker
