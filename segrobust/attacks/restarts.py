"""The best of several runs of one attack, from different random starts."""

from dataclasses import dataclass

from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Observer, Tracker
from segrobust.attacks.core.wrapper import Wrapper
from segrobust.attacks.ensemble import run_in_turn


@dataclass(frozen=True, kw_only=True)
class Restarts(Wrapper):
    """Several runs of an attack: the first unchanged, the others from random starts; the best counts.

    Args:
        attack: one that can start at random, such as `PGD`.
        num_runs: at least 2.
    """

    num_runs: int = 4

    def __post_init__(self) -> None:
        if self.attack.start_seed is None:
            raise ValueError(
                "restarts need an attack that can start at random, such as PGD or APGD with their random_start and "
                f"seed; {type(self.attack).__name__} cannot"
            )
        if self.num_runs < 2:
            raise ValueError(f"num_runs must be at least 2, got {self.num_runs}; one run is the attack itself")

    @property
    def runs(self) -> tuple[Attack, ...]:
        """The attack of each run."""
        seed = self.attack.start_seed
        assert seed is not None, "checked at construction"
        return (self.attack, *(self.attack.with_start_seed(seed + i) for i in range(1, self.num_runs)))

    @property
    def max_passes(self) -> tuple[float, float]:
        """The passes of the attack inside in each run."""
        forwards, backwards = self.attack.max_passes
        return self.num_runs * forwards, self.num_runs * backwards

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """The runs in turn, each on the images that it may still improve."""
        return run_in_turn(self.runs, oracle, problem, observer, minimal_norm=self.minimal_norm)
