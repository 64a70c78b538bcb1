"""What of full size the loop lets go of, and when."""

import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from conformance import EPS, ConvNetwork
from torch import Tensor

from segrobust.attacks import PGD
from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.attacks.core.problem import Problem, make_problem
from segrobust.attacks.core.tracker import Iterate


class Watched(NetworkOracle):
    """Tells which of the tensors that it gave and was given are still held when it is asked again."""

    def __init__(self, network: torch.nn.Module, images: Tensor) -> None:
        super().__init__(network, images)
        self.given: list[weakref.ref[Tensor]] = []
        self.taken: list[weakref.ref[Tensor]] = []

    def logits(self, delta: Tensor, *, differentiable: bool = True) -> Tensor:
        assert not any(logits() is not None for logits in self.given)
        logits = super().logits(delta, differentiable=differentiable)
        self.given.append(weakref.ref(logits))
        return logits

    def pullback(self, cotangent: Tensor) -> Tensor:
        self.taken.append(weakref.ref(cotangent))
        return super().pullback(cotangent)


@pytest.mark.parametrize("method", ["run", "last_iterate"])
def test_logits_are_let_go_before_the_next_and_cotangents_before_the_update(method):
    images = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    problem = make_problem(images, torch.zeros(2, 6, 7, dtype=torch.int64), norm="linf", eps=EPS)
    oracle = Watched(ConvNetwork().eval().requires_grad_(False), images)

    @dataclass(frozen=True, kw_only=True)
    class Watching(PGD):
        def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: Any) -> Tensor:
            assert oracle.taken[-1]() is None
            return super().update(problem, iterate, gradient, state)

    attack = Watching(num_steps=3, eps=EPS)
    _ = attack.run(oracle, problem, None) if method == "run" else attack.last_iterate(oracle, problem)
    assert len(oracle.taken) == 3
