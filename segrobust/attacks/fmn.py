r"""FMN: gradient steps inside a ball whose radius shrinks on success and grows on failure.

Source: M. Pintor, F. Roli, W. Brendel, B. Biggio, "Fast Minimum-norm Adversarial Attacks through Adaptive Norm
Constraints", NeurIPS 2021 (arXiv 2102.12827), algorithm 1; for segmentation as in the comparisons of Rony et al., CVPR
2023, with the mean margin.

With F the sum of the signed margins of the counted pixels (positive: unbroken), and the iterate delta judged:

1. Radius. After a success: eps <- min((1 - gamma_k) eps, smallest norm found). After a failure: if there has been a
   success, eps <- (1 + gamma_k) eps; else eps <- ||delta|| + |F| / ||grad F||_q, where F would be 0 if it were linear.
2. Step: delta <- delta - alpha_k grad F / ||grad F||_2.
3. delta <- projection onto the ball of radius eps, then onto the box.

gamma_k and alpha_k fall as half a cosine.

| paper    | here         | meaning                                                         |
|----------|--------------|-----------------------------------------------------------------|
| K        | `num_steps`  | iterations                                                      |
| alpha_0  | `step_size`  | l2 length of the first step; that of the last is `LAST_STEP` of it |
| gamma_0  | `gamma`      | relative change of the radius at the start; at the end `LAST_GAMMA` |
| epsilon  | `radius`     | radius of the ball                                              |
| q        | `DUAL[norm]` | dual norm                                                       |
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_attack_fields, check_choice
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.lengths import Length
from segrobust.functional.norms import DUAL, NormName, norm, per_image
from segrobust.functional.projections import project
from segrobust.functional.schedules import cosine_decay

CountedMargins = Literal["masked", "mean"]

STEP_SHARE: dict[NormName, float] = {"linf": 0.5, "l2": 0.2, "l1": 0.2}  # of the first-order distance
LAST_STEP = 0.01
LAST_GAMMA = 0.001


@dataclass
class FMNState:
    """State of FMN; the image comes first in every tensor."""

    radius: Tensor  # (B,) eps
    smallest: Tensor  # (B,) smallest norm of a success, inf before the first
    total: Tensor  # (B,) |F|
    excess: Tensor  # (B,) sum of the positive margins
    step: Tensor  # (B,) alpha_0


@dataclass(frozen=True, kw_only=True)
class FMN(IterativeAttack[FMNState]):
    """FMN, minimal-norm, l_inf, l2 or l1, untargeted or targeted (Pintor et al., NeurIPS 2021).

    The step follows the l2-normalised gradient for every norm; the norm determines the ball.

    By default F counts the pixels that are not broken yet; before the first success the radius exceeds ||delta|| by
    0.1 % or more; and the first step is a share of each image's first-order l2 distance, 1/2 in l_inf and 1/5 in l2 and
    l1. In published comparisons F counts all valid pixels, and the first step is 10 long in l_inf and 1 in l2 and l1:
    `FMN(margin="mean", step_size=10.0)`. Then broken pixels still contribute to the gradient; F = 0 means that the mean
    margin is zero, not that enough pixels are broken, and an image may stop there; and one step length is used for
    small and large images, for fragile and robust networks.

    In either form the l2 projection does not move points inside the ball (released: a misplaced parenthesis moves them
    to the sphere), and the last iterate is judged too.

    Args:
        num_steps: iterations.
        step_size: alpha_0, l2 length of the first step, image units; None for a share of the first-order distance.
        gamma: relative change of the radius at the start, in (0, 1).
        margin: pixels that F counts: unbroken ones (`"masked"`) or all valid ones (`"mean"`).
        norm: `"linf"`, `"l2"` or `"l1"`.
        criterion: when a pixel, and when an image, is broken.
    """

    minimal_norm: ClassVar[bool] = True

    num_steps: int = 500
    step_size: Length | None = None
    gamma: float = 0.05
    margin: CountedMargins = "masked"
    norm: NormName = "linf"
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        check_attack_fields(("linf", "l2", "l1"), self.norm, None, self.num_steps)
        check_choice("margin", self.margin, get_args(CountedMargins))
        if self.step_size is not None and self.step_size <= 0:
            raise ValueError(f"step_size must be positive, got {self.step_size}; use None to scale it by image")
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma is a relative change of the radius in (0, 1), got {self.gamma}; published: 0.05")

    def init(self, problem: Problem) -> tuple[Tensor, FMNState]:
        """Starts at zero, or at the warm start with its norm as the radius."""
        delta = problem.start_or_zero
        radius = norm(delta, self.norm)
        zero = torch.zeros_like(radius)
        return delta, FMNState(radius, smallest=torch.full_like(zero, torch.inf), total=zero, excess=zero, step=zero)

    def observe(self, problem: Problem, iterate: Iterate, state: FMNState) -> FMNState:
        """The smallest norm of a success, and the values for the next radius and the first step."""
        margins = self.criterion.margins(iterate.logits, problem)
        smaller = iterate.success & (iterate.norm < state.smallest)
        return replace(
            state,
            smallest=torch.where(smaller, iterate.norm, state.smallest),
            total=(margins * self._counted(problem, iterate)).sum((1, 2)).abs(),
            excess=(margins.clamp_min(0) * problem.valid_mask).sum((1, 2)),
        )

    def objective(self, problem: Problem, iterate: Iterate, state: FMNState) -> Tensor:
        """Minus F."""
        return -(self.criterion.margins(iterate.logits, problem) * self._counted(problem, iterate)).sum((1, 2))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: FMNState) -> Tensor:
        """The next radius, and a step inside it; no step where the gradient is zero."""
        gamma = cosine_decay(self.gamma, LAST_GAMMA, iterate.step, self.num_steps)
        self._control_radius(iterate, gradient, state, gamma)
        slope = norm(gradient, "l2").clamp_min(1e-30)
        if iterate.step == 0:
            state.step = self._first_step(problem, iterate, state.excess / slope)
        length = state.step * cosine_decay(1.0, LAST_STEP, iterate.step, self.num_steps) / slope
        moved = iterate.delta + per_image(length, gradient) * gradient
        return project(moved, state.radius, self.norm, problem.lower, problem.upper)

    def done(self, problem: Problem, iterate: Iterate, state: FMNState) -> Tensor:
        """Images that are broken at norm 0."""
        return iterate.success & (iterate.norm == 0)

    def _counted(self, problem: Problem, iterate: Iterate) -> Tensor:
        """Pixels whose margins F sums: `(B, H, W)` bool."""
        return problem.valid_mask & ~iterate.broken if self.margin == "masked" else problem.valid_mask

    def _first_step(self, problem: Problem, iterate: Iterate, distance: Tensor) -> Tensor:
        """alpha_0 of each image: `(B,)`; the distance includes the norm of a warm start."""
        if self.step_size is not None:
            return torch.full_like(distance, self.step_size)
        reach = torch.minimum(norm(iterate.delta, "l2") + distance, norm(problem.upper - problem.lower, "l2"))
        return STEP_SHARE[self.norm] * reach

    def _control_radius(self, iterate: Iterate, gradient: Tensor, state: FMNState, gamma: float) -> None:
        distance = state.total / norm(gradient, DUAL[self.norm]).clamp_min(1e-30)
        if self.margin == "masked":  # the distances are Newton steps, whose end is the boundary: a tie, no success
            distance = torch.maximum(distance, LAST_GAMMA * iterate.norm)
        unmet = torch.where(state.smallest.isinf(), iterate.norm + distance, state.radius * (1 + gamma))
        met = torch.minimum(state.radius * (1 - gamma), state.smallest)
        state.radius = torch.where(iterate.success, met, unmet)
