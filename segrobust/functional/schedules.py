"""Step-size schedules, of one image or of a batch."""

from torch import Tensor


def hyperbolic_decay(initial: float, final_ratio: float, step: int, start: Tensor, end: int) -> Tensor:
    """Step size that stays at its initial value up to `start` and falls hyperbolically to a share of it at `end`.

    `initial / (1 + (1/r - 1) (step - start)^+ / max(end - start, 1))` with r the final ratio.

    Args:
        initial: step size before the decay.
        final_ratio: r in (0, 1], step size at `end` over the initial one.
        step: the current step.
        start: `(B,)` step of each image at which its decay begins.
        end: step at which the final ratio is reached.

    Returns:
        `(B,)` step sizes.

    Source: Rony et al., CVPR 2023.
    """
    progress = (step - start).clamp_min(0) / (end - start).clamp_min(1)
    return initial / (1 + (1 / final_ratio - 1) * progress)
