"""Projected gradient descent, the standard fixed-budget attack."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from segrobust.attacks.core.ball import BallAttack
from segrobust.attacks.core.losses import CrossEntropy, PixelLoss
from segrobust.attacks.core.problem import Problem
from segrobust.functional.lengths import Length


@dataclass(frozen=True, kw_only=True)
class PGD(BallAttack[None]):
    """PGD, fixed-budget, l_inf or l2, untargeted or targeted (Madry et al., ICLR 2018).

    `delta <- project(delta + step * ascent(gradient of the summed pixel losses))`, with the sign of the gradient for
    l_inf and the normalised gradient for l2. Of all iterates, the last one included, the one that breaks most pixels is
    returned. An image whose valid pixels are all broken stops.

    Args:
        num_steps: gradient steps.
        eps: radius, image units; None if each call passes its own.
        step_size: step, in the units of the norm; None for `step_ratio * eps`.
        step_ratio: step over radius; None for `2.5 / num_steps`, at most 1.
        norm: `"linf"` or `"l2"`.
        loss: the `PixelLoss` to maximise; `SegPGDLoss` and `CosPGDLoss` make those attacks.
        random_start: start at a random point of the ball (uniform for l_inf; uniform direction and radius for l2).
        seed: of the random start, together with the sample id.
        criterion: when a pixel, and when an image, is broken.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> result = PGD(num_steps=10, eps=0.1)(network, images, labels)
        >>> result.success.tolist(), bool((result.norm <= 0.1 + 1e-6).all())
        ([True, True], True)
    """

    loss: PixelLoss = field(default_factory=CrossEntropy)
    num_steps: int = 40
    step_size: Length | None = None
    step_ratio: float | None = None
    random_start: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is not None and self.step_ratio is not None:
            raise ValueError(f"give step_size or step_ratio, got {self.step_size} and {self.step_ratio}")
        for name in ("step_size", "step_ratio"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}; use None for steps of 2.5 eps / num_steps")

    def init(self, problem: Problem) -> tuple[Tensor, None]:
        """See `BallAttack.first`."""
        return self.first(problem), None

    def step_lengths(self, problem: Problem) -> Tensor:
        """Length of a step of each image: `(B,)`."""
        eps = self.radius(problem)
        if self.step_size is not None:
            return torch.full_like(eps, self.step_size)
        return eps * (min(2.5 / self.num_steps, 1.0) if self.step_ratio is None else self.step_ratio)
