"""Fast gradient sign method: one step to the edge of the ball."""

from dataclasses import dataclass
from typing import ClassVar

from segrobust.attacks.ball import BallAttack


@dataclass(frozen=True, kw_only=True)
class FGSM(BallAttack):
    """FGSM, fixed-budget, l_inf (FGM for l2), untargeted or targeted (Goodfellow et al., ICLR 2015, section 4).

    `delta = eps * sign(gradient of the summed pixel losses at the clean image)`; l2: the normalised gradient. The clean
    image is judged too, and returned where the step breaks no more pixels.

    Args:
        eps: radius, image units; None if every call gives its own.
        norm: `"linf"` or `"l2"`.
        loss: `"ce"`, `"margin"` or `"dlr"`.
        criterion: what breaks a pixel and how many make a success.
    """

    num_steps: ClassVar[int] = 1
