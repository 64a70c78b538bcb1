"""Attacks whose search runs in bfloat16; the result is judged in full precision."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.wrapper import OracleWrapper


class AutocastOracle:
    """An oracle whose passes run under bfloat16 autocast; logits and gradients have the precision of the images.

    Args:
        oracle: that of the network.
    """

    def __init__(self, oracle: GradientOracle) -> None:
        self.counter = oracle.counter
        self._oracle = oracle

    def logits(self, delta: Tensor, *, differentiable: bool = True) -> Tensor:
        """See `GradientOracle`."""
        with torch.autocast(delta.device.type, dtype=torch.bfloat16):
            return self._oracle.logits(delta, differentiable=differentiable)

    def pullback(self, cotangent: Tensor) -> Tensor:
        """See `GradientOracle`."""
        return self._oracle.pullback(cotangent)

    def select(self, rows: Tensor) -> Self:
        """See `GradientOracle`."""
        return type(self)(self._oracle.select(rows))


@dataclass(frozen=True, kw_only=True)
class InBFloat16(OracleWrapper):
    """Any attack with the passes of its search in bfloat16 (autocast), for training on hardware that is fast at it.

    The result is judged in full precision. bfloat16 has the range of float32, so gradients do not vanish as they do in
    float16, but only 8 bits of precision: do not use it for minimal norms below 1/255.

    Args:
        attack: any attack.
    """

    def searching_oracle(self, oracle: GradientOracle, problem: Problem) -> GradientOracle:
        """The network under autocast."""
        return AutocastOracle(oracle)
