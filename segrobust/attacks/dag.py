r"""DAG: normalised gradient steps on the pixels that are not broken yet, until enough of them are.

Source: C. Xie, J. Wang, Z. Zhang, Y. Zhou, L. Xie, A. Yuille, "Adversarial Examples for Semantic Segmentation and
Object Detection", ICCV 2017 (arXiv 1703.08603), algorithm 1, with any other class as the adversarial one.

    r <- r - gamma grad / ||grad||_p,   grad of   sum over the unbroken valid pixels i of v_i(x + r)

with v the signed margin of the logits, positive where a pixel is unbroken. The network sees x + r clipped to the box;
a value of r that has left the box has no gradient any more, and stays where it is.

| paper   | here         | meaning                                                    |
|---------|--------------|------------------------------------------------------------|
| M_0     | `num_steps`  | iterations at most                                         |
| r_m     | `walked`     | sum of the steps so far; `delta` is its part in the box    |
| gamma   | `step_size`  | norm of a step, in the attack's norm (paper: 0.5 of 255)   |
| T_m     | `unbroken`   | pixels that are not broken yet     |
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_attack_fields
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName, norm, per_image

STEP_LINF = 3e-3
STEP_L2_PER_VALUE = 1e-3  # root mean square over the values of the valid pixels


@dataclass
class DAGState:
    """State of DAG; the image comes first."""

    walked: Tensor  # (B, C, H, W) r


@dataclass(frozen=True, kw_only=True)
class DAG(IterativeAttack[DAGState]):
    """DAG, minimal-norm, l_inf or l2, untargeted or targeted (Xie et al., ICCV 2017): greedy, cheap, a loose bound.

    The objective does not contain the norm: an image stops at its first success, with the norm of the steps until then.

    The released codes take gamma = 0.5, which is meant for images in 0..255; here it is in image units. Where they fail
    they return the clean image, of norm 0; here a failure is the iterate with most broken pixels and has norm inf.
    Pixels that the adversary may not write take no part in the length of a step.

    Args:
        num_steps: iterations at most.
        step_size: gamma, norm of a step, image units. None for 3e-3 in l_inf, as in published comparisons, and for
            `1e-3 sqrt(n)` in l2, n the number of values of the valid pixels, a step of 1e-3 as root mean square; a
            third of it gives smaller norms on fragile networks, and 200 steps do not reach robust ones.
        norm: `"linf"` or `"l2"`, in which a step is measured, and the result.
        criterion: when a pixel, and when an image, is broken.
    """

    minimal_norm: ClassVar[bool] = True

    num_steps: int = 200
    step_size: Length | None = None
    norm: NormName = "linf"
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        check_attack_fields(("linf", "l2"), self.norm, None, self.num_steps)
        if self.step_size is not None and self.step_size <= 0:
            raise ValueError(f"step_size must be positive, got {self.step_size}; use None for the norm's default")
        if self.norm == "linf" and self.step_size is not None and self.step_size > 1:
            raise ValueError(f"step_size is in image units [0, 1], got {self.step_size}; divide by 255")

    def init(self, problem: Problem) -> tuple[Tensor, DAGState]:
        """Starts at zero, or at the warm start."""
        delta = problem.start_or_zero
        return delta, DAGState(walked=delta)

    def objective(self, problem: Problem, iterate: Iterate, state: DAGState) -> Tensor:
        """Minus the sum of the margins of the unbroken pixels: `(B,)`."""
        margins = self.criterion.margins(iterate.logits, problem)
        return -(margins * (problem.valid_mask & ~iterate.broken)).sum((1, 2))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: DAGState) -> Tensor:
        """A step of the given norm along the gradient, and its part in the box; none where the gradient is zero."""
        locked = problem.lower == problem.upper
        outside = (state.walked < problem.lower) | (state.walked > problem.upper)
        gradient = gradient.masked_fill(outside | locked, 0)
        scale = self.step_lengths(problem) / norm(gradient, self.norm).clamp_min(1e-30)
        state.walked = state.walked + per_image(scale, gradient) * gradient
        return state.walked.clamp(problem.lower, problem.upper)

    def step_lengths(self, problem: Problem) -> Tensor:
        """Norm of a step of each image: `(B,)`."""
        num_values = problem.images.shape[1] * problem.num_valid.to(problem.images.dtype)
        if self.step_size is not None:
            return torch.full_like(num_values, self.step_size)
        return STEP_L2_PER_VALUE * num_values.sqrt() if self.norm == "l2" else torch.full_like(num_values, STEP_LINF)

    def done(self, problem: Problem, iterate: Iterate, state: DAGState) -> Tensor:
        """Images that are broken: the first success is the result."""
        return iterate.success
