"""Base classes of attacks that contain another attack."""

import abc
from dataclasses import dataclass, replace

from torch import Tensor

from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.criteria import Criterion
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Observer, Tracker
from segrobust.functional.norms import NormName


@dataclass(frozen=True, kw_only=True)
class Wrapper(Attack):
    """An attack that contains another one, and has its properties unless it overrides them.

    Args:
        attack: the attack inside.
    """

    attack: Attack

    @property
    def minimal_norm(self) -> bool:
        """The kind of the attack inside."""
        return self.attack.minimal_norm

    @property
    def norm(self) -> NormName:
        """The norm of the attack inside."""
        return self.attack.norm

    @property
    def criterion(self) -> Criterion:
        """The criterion of the attack inside."""
        return self.attack.criterion

    @property
    def default_eps(self) -> float | None:
        """The radius of the attack inside."""
        return self.attack.default_eps

    @property
    def step_budget(self) -> int | None:
        """The step budget of the attack inside."""
        return self.attack.step_budget

    def with_step_budget(self, steps: int) -> Attack:
        """The same wrapper around an attack with other steps."""
        return replace(self, attack=self.attack.with_step_budget(steps))


@dataclass(frozen=True, kw_only=True)
class OracleWrapper(Wrapper):
    """An attack, unchanged, on another view of the network.

    Args:
        attack: any attack.
    """

    @property
    def max_passes(self) -> tuple[float, float]:
        """The passes of the attack inside."""
        return self.attack.max_passes

    @property
    def own_radii(self) -> tuple[float, ...]:
        """The radii of the attack inside."""
        return self.attack.own_radii

    @abc.abstractmethod
    def searching_oracle(self, oracle: GradientOracle, problem: Problem) -> GradientOracle:
        """The network as the attack inside sees it."""

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """Runs the attack inside on its view of the network."""
        return self.attack.run(self.searching_oracle(oracle, problem), problem, observer)

    def run_at_radii(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> tuple[Tracker, ...]:
        """Runs the attack inside at all its radii on its view of the network."""
        return self.attack.run_at_radii(self.searching_oracle(oracle, problem), problem, observer)

    def last_iterate(self, oracle: GradientOracle, problem: Problem) -> Tensor:
        """The last iterate of the attack inside on its view of the network."""
        return self.attack.last_iterate(self.searching_oracle(oracle, problem), problem)
