"""Region PGD: weights for pixels that were never broken, that have been broken, and that were broken at the start.

Source: "RP-PGD: Boosting Segmentation Robustness with a Region-and-Prototype Based Adversarial Attack", AAAI 2025, the
region loss. Its prototype loss needs features of an inner layer, and is left out.

| paper | here                    | meaning                                                    |
|-------|-------------------------|------------------------------------------------------------|
| N, i  | `num_steps`, `step + 1` | iterations                                                 |
| T     | not `ever`              | true region: pixels that were correct at every iterate  |
| B     | `ever` and not `first`  | boundary region: correct at first, broken at some iterate    |
| F     | `first`                 | false region: broken at the first iterate                  |
| alpha | `step_size`             | step                                                       |
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_step_size
from segrobust.attacks.core.ball import BallAttack
from segrobust.attacks.core.losses import CrossEntropy, PixelLoss
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName


@dataclass
class RegionPGDState:
    """Which pixels have been broken."""

    first: Tensor  # (B, H, W) bool, at the first iterate
    ever: Tensor  # (B, H, W) bool, at any so far


@dataclass(frozen=True, kw_only=True)
class RegionPGD(BallAttack[RegionPGDState]):
    """PGD with the region weights of RP-PGD, fixed-budget, l_inf, untargeted or targeted.

    The cross-entropy of a pixel weighs `(2 N - i) / 2 N` while it has never been broken, `(i - 1) / 2 N` once it has
    been, and `1 / 2 N` if it was from the start. Of all iterates the one that breaks most pixels is returned (paper:
    the last). The released code has other weights, one of which is negative at the first step.

    Args:
        num_steps: gradient steps; the paper's tables have 3 to 100.
        eps: radius, image units; None if each call passes its own. The paper's is 0.03.
        step_size: step, image units.
        norm: `"linf"`.
        random_start: start at a random point of the ball.
        seed: of the random start, together with the sample id.
        criterion: when a pixel, and when an image, is broken.
    """

    norms: ClassVar[tuple[NormName, ...]] = ("linf",)
    loss: ClassVar[PixelLoss] = CrossEntropy()

    num_steps: int = 40
    step_size: Length = 0.01
    random_start: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_step_size(self.step_size, "the paper's is 0.01")

    def init(self, problem: Problem) -> tuple[Tensor, RegionPGDState]:
        """See `BallAttack.first`; no pixel is in a region yet."""
        unseen = torch.zeros_like(problem.valid_mask)
        return self.first(problem), RegionPGDState(first=unseen, ever=unseen)

    def observe(self, problem: Problem, iterate: Iterate, state: RegionPGDState) -> RegionPGDState:
        """Adds the broken pixels to the regions."""
        first = iterate.broken if iterate.step == 0 else state.first
        return replace(state, first=first, ever=state.ever | iterate.broken)

    def pixel_losses(self, problem: Problem, iterate: Iterate, state: RegionPGDState) -> Tensor:
        """Weighted cross-entropies."""
        whole, i = 2 * self.num_steps, iterate.step + 1
        weights = torch.where(state.ever, (i - 1) / whole, (whole - i) / whole)
        weights = torch.where(state.first, 1 / whole, weights)
        return super().pixel_losses(problem, iterate, state) * weights

    def step_lengths(self, problem: Problem) -> Tensor:
        """`step_size` for every image: `(B,)`."""
        return torch.full_like(self.radius(problem), self.step_size)
