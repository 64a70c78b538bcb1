"""Step-size schedules, of one image or of a batch."""

import math

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

    Examples:
        >>> start = torch.tensor([0])
        >>> [hyperbolic_decay(1.0, 0.1, step, start, end=9).item() for step in (0, 1, 3)]
        [1.0, 0.5, 0.25]
    """
    progress = (step - start).clamp_min(0) / (end - start).clamp_min(1)
    return initial / (1 + (1 / final_ratio - 1) * progress)


def cosine_decay(first: float, last: float, step: int, end: int) -> float:
    """A value that falls as half a cosine: `last + (first - last) (1 + cos(pi step / end)) / 2`.

    Args:
        first: at step 0.
        last: at step `end`.
        step: the current step.
        end: step at which the last value is reached, at least 1.

    Examples:
        >>> [cosine_decay(1.0, 0.0, step, end=4) for step in (0, 2, 4)]
        [1.0, 0.5, 0.0]
    """
    return last + (first - last) * ((1 + math.cos(math.pi * step / end)) / 2)
