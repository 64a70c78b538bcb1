"""PAdam: Adam inside a ball, without a step size to tune.

Source: L. Halmosi, B. Mohos, M. Jelasity, "Evaluating the Adversarial Robustness of Semantic Segmentation: Trying
Harder Pays Off", ECCV 2024 (arXiv 2407.09150); AMSGrad: S. Reddi, S. Kale, S. Kumar, ICLR 2018.

| Adam    | here                | meaning                                     |
|---------|---------------------|---------------------------------------------|
| alpha   | `step_size`         | step, 2/255                                 |
| m, v    | `mean`, `square`    | averages of gradient and squared gradient   |
| v_max   | `largest`           | AMSGrad: largest v so far                   |
"""

from dataclasses import dataclass, field
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

MEAN_MEMORY, SQUARE_MEMORY = 0.9, 0.999
FLOOR = 1e-8  # added to the root of v


@dataclass
class PAdamState:
    """State of Adam, each `(B, C, H, W)`."""

    mean: Tensor
    square: Tensor
    largest: Tensor


@dataclass(frozen=True, kw_only=True)
class PAdam(BallAttack[PAdamState]):
    """PAdam, fixed-budget, l_inf, untargeted or targeted (Halmosi et al., ECCV 2024).

    Adam with AMSGrad from a random start, each step projected. `PAdam()` is PAdam-CE, `PAdam(loss=LogitCosine())` is
    PAdam-Cos. The released code maximises the mean over the batch, whose gradient is as small as Adam's epsilon of
    1e-8, so that its result depends on the batch; here the sum over the valid pixels of an image is maximised. Of all
    iterates the one that breaks most pixels is returned (released code: the last).

    Args:
        num_steps: gradient steps.
        eps: radius, image units; None if each call passes its own.
        step_size: Adam's step, image units.
        norm: `"linf"`.
        loss: the `PixelLoss` to maximise.
        random_start: start at a uniform point of the ball.
        seed: of the random start, together with the sample id.
        criterion: when a pixel, and when an image, is broken.
    """

    norms: ClassVar[tuple[NormName, ...]] = ("linf",)

    loss: PixelLoss = field(default_factory=CrossEntropy)
    num_steps: int = 200
    step_size: Length = 2 / 255
    random_start: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_step_size(self.step_size, "the paper's is 2/255 = 0.00784")

    def init(self, problem: Problem) -> tuple[Tensor, PAdamState]:
        """The first point; averages start at zero."""
        delta = self.first(problem)
        return delta, PAdamState(*(torch.zeros_like(delta) for _ in range(3)))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: PAdamState) -> Tensor:
        """One step of Adam with AMSGrad, projected."""
        state.mean = torch.lerp(gradient, state.mean, MEAN_MEMORY)
        state.square = torch.lerp(gradient.square(), state.square, SQUARE_MEMORY)
        state.largest = torch.maximum(state.largest, state.square)
        count = iterate.step + 1
        mean = state.mean / (1 - MEAN_MEMORY**count)
        root = (state.largest / (1 - SQUARE_MEMORY**count)).sqrt_().add_(FLOOR)
        return self.project(problem, iterate.delta + self.step_size * mean / root)
