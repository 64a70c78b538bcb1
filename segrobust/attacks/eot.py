"""Attacks on randomised networks: logits and gradients averaged over draws."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.wrapper import OracleWrapper


class AveragedOracle:
    """Mean logits, and their gradient, over draws of a random network; each draw is counted.

    The graphs of all draws stay in memory between `logits` and `pullback`.

    Args:
        draws: oracles of the same images.
    """

    def __init__(self, draws: tuple[GradientOracle, ...]) -> None:
        self.counter = draws[0].counter
        self._draws = draws

    def logits(self, delta: Tensor, *, differentiable: bool = True) -> Tensor:
        """See `GradientOracle`."""
        return _mean([draw.logits(delta, differentiable=differentiable) for draw in self._draws])

    def pullback(self, cotangent: Tensor) -> Tensor:
        """See `GradientOracle`."""
        return _mean([draw.pullback(cotangent) for draw in self._draws])

    def select(self, rows: Tensor) -> Self:
        """See `GradientOracle`."""
        return type(self)(tuple(draw.select(rows) for draw in self._draws))


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)


@dataclass(frozen=True, kw_only=True)
class EOT(OracleWrapper):
    """Any attack on the average over a network's randomness (expectation over transformation, Athalye et al. 2018).

    If a network adds noise or drops units when it predicts, the gradient and the prediction of a single draw are
    unreliable. The attack inside sees logits averaged over draws, and the gradient of that average. The result is
    judged on an average over as many draws, so the attacked network is the averaged one. EOT must be the outermost
    wrapper. It costs `num_draws` times the passes of the attack inside, and the graphs of all draws are in memory at
    once.

    The network draws from the global random generators, as without attack: seed them to repeat a result.

    Args:
        attack: any attack.
        num_draws: at least 2.
    """

    num_draws: int = 10

    def __post_init__(self) -> None:
        if self.num_draws < 2:
            raise ValueError(f"num_draws must be at least 2, got {self.num_draws}; one draw is the attack itself")

    @property
    def max_passes(self) -> tuple[float, float]:
        """The passes of the attack inside for every draw."""
        forwards, backwards = self.attack.max_passes
        return self.num_draws * forwards, self.num_draws * backwards

    def searching_oracle(self, oracle: GradientOracle, problem: Problem) -> GradientOracle:
        """The average over draws."""
        every = torch.arange(problem.batch_size)
        return AveragedOracle(tuple(oracle.select(every) for _ in range(self.num_draws)))

    def judging_oracle(self, oracle: GradientOracle, problem: Problem) -> GradientOracle:
        """The average over as many draws."""
        return self.searching_oracle(oracle, problem)
