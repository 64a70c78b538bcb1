"""Momentum iterative FGSM.

Source: Y. Dong et al., "Boosting Adversarial Attacks with Momentum", CVPR 2018 (arXiv 1710.06081), Algorithm 1.

| paper  | here                    | meaning                                    |
|--------|-------------------------|--------------------------------------------|
| T      | `num_steps`             | iterations                                 |
| mu     | `decay`                 | of the accumulated gradient; 0 for I-FGSM  |
| g_t    | `MIFGSMState.momentum`  | accumulated gradient                       |
| alpha  | eps / T                 | step                                       |
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.ball import BallAttack
from segrobust.attacks.core.losses import CrossEntropy, PixelLoss
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.norms import norm, per_image


@dataclass
class MIFGSMState:
    """State of MI-FGSM."""

    momentum: Tensor  # (B, C, H, W) g


@dataclass(frozen=True, kw_only=True)
class MIFGSM(BallAttack[MIFGSMState]):
    """MI-FGSM, fixed-budget, l_inf or l2, untargeted or targeted (Dong et al., CVPR 2018).

    `g <- decay g + gradient / ||gradient||_1`, `delta <- project(delta + eps / N ascent(g))`. Of all iterates the one
    that breaks most pixels is returned (paper: the last); a zero gradient adds nothing instead of dividing by zero.

    Args:
        num_steps: gradient steps.
        eps: radius, image units; None if each call passes its own.
        decay: of the accumulated gradient, at least 0; 0 is the iterative FGSM without momentum.
        norm: `"linf"` or `"l2"`.
        loss: the `PixelLoss` to maximise.
        criterion: when a pixel, and when an image, is broken.
    """

    random_start: ClassVar[bool] = False
    seed: ClassVar[int] = 0

    loss: PixelLoss = field(default_factory=CrossEntropy)
    num_steps: int = 20
    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decay < 0:
            raise ValueError(f"decay must be at least 0, got {self.decay}; the paper's is 1, and 0 has no momentum")

    def init(self, problem: Problem) -> tuple[Tensor, MIFGSMState]:
        """Starts without momentum."""
        return self.first(problem), MIFGSMState(torch.zeros_like(problem.images))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: MIFGSMState) -> Tensor:
        """Adds the gradient to the momentum, and follows that."""
        length = norm(gradient, "l1").clamp_min(1e-30)
        state.momentum = self.decay * state.momentum + gradient / per_image(length, gradient)
        return super().update(problem, iterate, state.momentum, state)

    def step_lengths(self, problem: Problem) -> Tensor:
        """All steps together are as long as the radius: `(B,)`."""
        return self.radius(problem) / self.num_steps
