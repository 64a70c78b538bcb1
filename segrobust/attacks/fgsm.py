"""Fast gradient sign method, from the image itself or from a random point of the ball: one step."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from segrobust.attacks.core.ball import BallAttack
from segrobust.attacks.core.losses import CrossEntropy, PixelLoss
from segrobust.attacks.core.problem import Problem
from segrobust.functional.norms import NormName


@dataclass(frozen=True, kw_only=True)
class FGSM(BallAttack[None]):
    """FGSM, fixed-budget, l_inf (FGM for l2), untargeted or targeted (Goodfellow et al., ICLR 2015, section 4).

    `delta = eps * sign(gradient of the summed pixel losses at the clean image)`; l2: the normalised gradient. The clean
    image is judged too, and returned if the step breaks no more pixels.

    Args:
        eps: radius, image units; None if each call passes its own.
        norm: `"linf"` or `"l2"`.
        loss: the loss to maximise; `Masked()` makes SegFGSM (Gu et al., ECCV 2022).
        criterion: when a pixel, and when an image, is broken.
    """

    num_steps: ClassVar[int] = 1
    random_start: ClassVar[bool] = False
    seed: ClassVar[int] = 0

    loss: PixelLoss = field(default_factory=CrossEntropy)

    def init(self, problem: Problem) -> tuple[Tensor, None]:
        """The image itself, or the warm start."""
        return self.first(problem), None


@dataclass(frozen=True, kw_only=True)
class RSFGSM(BallAttack[None]):
    """FGSM from a random start, fixed-budget, l_inf, untargeted or targeted (Wong, Rice and Kolter, ICLR 2020).

    From a uniform point of the ball one step of `step_ratio * eps` along the sign of the gradient, projected back: the
    attack of fast adversarial training.

    Args:
        eps: radius, image units; None if each call passes its own.
        norm: `"linf"`.
        loss: the `PixelLoss` to maximise.
        step_ratio: step over radius.
        seed: of the random start, together with the sample id.
        criterion: when a pixel, and when an image, is broken.
    """

    norms: ClassVar[tuple[NormName, ...]] = ("linf",)
    num_steps: ClassVar[int] = 1
    random_start: ClassVar[bool] = True

    loss: PixelLoss = field(default_factory=CrossEntropy)
    step_ratio: float = 1.25
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_ratio <= 0:
            raise ValueError(f"step_ratio must be positive, got {self.step_ratio}; the paper's is 1.25")

    def init(self, problem: Problem) -> tuple[Tensor, None]:
        """A random point of the ball, or the warm start."""
        return self.first(problem), None

    def step_lengths(self, problem: Problem) -> Tensor:
        """Length of the step of each image: `(B,)`."""
        return self.step_ratio * self.radius(problem)
