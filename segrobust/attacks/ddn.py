r"""DDN: the gradient gives the direction, and success or failure the length, of an l2 perturbation.

Source: J. Rony, L. G. Hafemann, L. S. Oliveira, I. Ben Ayed, R. Sabourin, E. Granger, "Decoupling Direction and Norm
for Efficient Gradient-Based L2 Adversarial Attacks and Defenses", CVPR 2019 (arXiv 1811.09600), algorithm 1; for
segmentation with the sum of the pixels' losses, as in the comparisons of Rony et al., CVPR 2023.

1. delta <- delta + alpha_k g / ||g||_2, with g the gradient of the loss.
2. eps <- (1 - gamma) eps on success, (1 + gamma) eps on failure.
3. delta <- eps delta / ||delta||_2, then into the box.

alpha_k falls as half a cosine.

| paper      | here                      | meaning                                |
|------------|---------------------------|----------------------------------------|
| K          | `num_steps`               | iterations                             |
| alpha      | `FIRST_STEP`, `LAST_STEP` | l2 length of a step, image units       |
| gamma      | `gamma`                   | relative change of the norm            |
| epsilon_0  | `initial_radius`          | first norm                             |
| J          | `loss`                    | loss that the direction maximises      |
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_attack_fields
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack
from segrobust.attacks.core.losses import CrossEntropy, PixelLoss, Pixels, check_loss
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName, norm, per_image
from segrobust.functional.schedules import cosine_decay

FIRST_STEP, LAST_STEP = 1.0, 0.01


@dataclass
class DDNState:
    """State of DDN; the image comes first in every tensor."""

    radius: Tensor  # (B,) eps


@dataclass(frozen=True, kw_only=True)
class DDN(IterativeAttack[DDNState]):
    """DDN, minimal-norm, l2, untargeted or targeted (Rony et al., CVPR 2019).

    The paper rounds every iterate to 8-bit values, which removes perturbations below half a level; `levels=256` does
    so. If the gradient is zero, the direction stays, and only the length changes (released: a step along Gaussian noise
    that is not normalised). The radius is at most the diagonal of the box (released: the distance to its farthest
    corner), and the last iterate is judged too.

    Args:
        num_steps: iterations.
        gamma: relative change of the norm per iteration, in (0, 1).
        initial_radius: norm of the first step's result, image units; replaced by the norm of a warm start.
        levels: number of values per channel that perturbed images may take, 256 for 8 bits; None for all. Values that
            are not perturbed are not rounded.
        loss: the `PixelLoss` that the direction maximises; the published one is the cross-entropy of all valid pixels,
            and `Masked()` leaves those out that are broken.
        norm: `"l2"`.
        criterion: when a pixel, and when an image, is broken.
    """

    minimal_norm: ClassVar[bool] = True

    num_steps: int = 500
    gamma: float = 0.05
    initial_radius: Length = 1.0
    levels: int | None = None
    loss: PixelLoss = field(default_factory=CrossEntropy)
    norm: NormName = "l2"
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        check_attack_fields(("l2",), self.norm, None, self.num_steps)
        check_loss(self.loss)
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma is a relative change of the norm in (0, 1), got {self.gamma}; published: 0.05")
        if not 0 < self.initial_radius < math.inf:
            raise ValueError(f"initial_radius must be positive and finite, got {self.initial_radius}; published: 1.0")
        if self.levels is not None and self.levels < 2:
            raise ValueError(f"levels must be at least 2, got {self.levels}; 256 for 8 bits, None for no rounding")

    def init(self, problem: Problem) -> tuple[Tensor, DDNState]:
        """Starts at zero, or at the warm start with its norm."""
        delta = problem.start_or_zero
        length = norm(delta, "l2")
        return delta, DDNState(torch.where(length > 0, length, self.initial_radius))

    def objective(self, problem: Problem, iterate: Iterate, state: DDNState) -> Tensor:
        """Sum of the losses of the valid pixels: `(B,)`."""
        pixels = Pixels.of(problem, iterate, self.criterion, self.num_steps)
        return (self.loss(pixels) * pixels.valid).sum((1, 2))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: DDNState) -> Tensor:
        """A step along the gradient, brought to the next norm, into the box and onto the levels."""
        length = cosine_decay(FIRST_STEP, LAST_STEP, iterate.step, self.num_steps)
        step = length / norm(gradient, "l2").clamp_min(1e-30)
        delta = iterate.delta + per_image(step, gradient) * gradient
        radius = torch.where(iterate.success, (1 - self.gamma) * state.radius, (1 + self.gamma) * state.radius)
        state.radius = torch.minimum(radius, norm(problem.upper - problem.lower, "l2"))
        delta = delta * per_image(state.radius / norm(delta, "l2").clamp_min(1e-30), delta)
        return self._quantised(problem, delta.clamp(problem.lower, problem.upper))

    def done(self, problem: Problem, iterate: Iterate, state: DDNState) -> Tensor:
        """Images that are broken at norm 0."""
        return iterate.success & (iterate.norm == 0)

    def _quantised(self, problem: Problem, delta: Tensor) -> Tensor:
        """The perturbation rounded such that perturbed values are levels."""
        if self.levels is None:
            return delta
        rounded = ((problem.images + delta) * (self.levels - 1)).round_().div_(self.levels - 1) - problem.images
        return torch.where(delta == 0, delta, rounded)
