"""PGD on the divergence from the clean prediction, the inner attack of TRADES.

Source: H. Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019 (arXiv
1901.08573), Algorithm 1; here per pixel.

| paper         | here        | meaning                                                    |
|---------------|-------------|------------------------------------------------------------|
| K             | `num_steps` | iterations                                                 |
| eta_1         | `step_size` | step                                                       |
| 0.001 N(0, 1) | `NOISE`     | first perturbation: at the image itself there is no slope  |
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_step_size
from segrobust.attacks.core.ball import BallAttack
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.random_start import random_start
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName
from segrobust.functional.pixel_losses import kl_divergence

NOISE = 1e-3


@dataclass
class KLPGDState:
    """State of KL-PGD."""

    clean: Tensor | None = None  # (B, K, H, W) logarithms of the clean probabilities


@dataclass(frozen=True, kw_only=True)
class KLPGD(BallAttack[KLPGDState]):
    """PGD on `KL(p(x), p(x + delta))`, fixed-budget, l_inf, untargeted (TRADES, Zhang et al., ICML 2019).

    Starts from uniform noise of at most 0.001 (paper: normal noise of that deviation). Labels are used to judge, not to
    attack. Of all iterates the one that breaks most pixels is returned (paper: the last). Costs one forward more than
    PGD.

    Args:
        num_steps: gradient steps.
        eps: radius, image units; None if each call passes its own.
        step_size: step, image units.
        norm: `"linf"`.
        seed: of the first noise, together with the sample id.
        criterion: when a pixel, and when an image, is broken.
    """

    norms: ClassVar[tuple[NormName, ...]] = ("linf",)
    random_start: ClassVar[bool] = True

    num_steps: int = 10
    step_size: Length = 2 / 255
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_step_size(self.step_size, "the paper's is 2/255 = 0.00784")
        if self.criterion.sign < 0 or self.criterion.localized:
            raise ValueError(
                "KLPGD moves away from the clean prediction, and supports no targets or pixels to keep; "
                "use PGD(criterion=Targeted())"
            )

    @property
    def max_passes(self) -> tuple[float, float]:
        """One forward over the clean images, and the passes of the iterates."""
        return self.num_steps + 2, self.num_steps

    def init(self, problem: Problem) -> tuple[Tensor, KLPGDState]:
        """The warm start, or small noise."""
        if problem.start is not None:
            return self.project(problem, problem.start), KLPGDState()
        noise = random_start(problem, torch.full_like(self.radius(problem), NOISE), self.norm, self.seed)
        return self.project(problem, noise), KLPGDState()

    def begin(self, oracle: GradientOracle, problem: Problem) -> tuple[Tensor, KLPGDState]:
        """One forward pass over the clean images, before the first iterate."""
        logits = oracle.logits(torch.zeros_like(problem.images), differentiable=False)
        delta, state = self.init(problem)
        return delta, replace(state, clean=logits.log_softmax(1))

    def pixel_losses(self, problem: Problem, iterate: Iterate, state: KLPGDState) -> Tensor:
        """Divergence of every pixel from the clean prediction: `(B, H, W)`."""
        assert state.clean is not None, "begin() comes before the first iterate"
        return kl_divergence(state.clean, iterate.logits)

    def step_lengths(self, problem: Problem) -> Tensor:
        """`step_size` for every image: `(B,)`."""
        return torch.full_like(self.radius(problem), self.step_size)
