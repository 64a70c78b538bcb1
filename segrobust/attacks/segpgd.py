"""SegPGD: PGD with weights that shift from unbroken pixels to all pixels.

Source: J. Gu, H. Zhao, V. Tresp, P. Torr, "SegPGD: An Effective and Efficient Adversarial Attack for Evaluating and
Boosting Segmentation Robustness", ECCV 2022 (arXiv 2207.12391), Algorithm 1.

| paper    | here           | meaning                                                  |
|----------|----------------|----------------------------------------------------------|
| T        | `num_steps`    | iterations                                               |
| alpha    | `step_size`    | step                                                     |
| lambda_t | `SegPGDLoss`   | `(t - 1) / (2 T)`: weight of broken pixels; others `1 - lambda_t` |
"""

from dataclasses import dataclass, field

from segrobust.attacks.core.losses import PixelLoss, SegPGDLoss
from segrobust.attacks.pgd import PGD


@dataclass(frozen=True, kw_only=True)
class SegPGD(PGD):
    """SegPGD, fixed-budget, l_inf or l2, untargeted or targeted (Gu et al., ECCV 2022).

    PGD from a random start on the cross-entropy, with weight `t / 2` for broken pixels and `1 - t / 2` for others, t
    the share of the steps so far. Of all iterates the one that breaks most pixels is returned (paper: the last). The
    paper attacks at 8/255 with steps of 0.01; here a step is `2.5 eps / num_steps` unless it is given.

    Args:
        num_steps: gradient steps; the paper's tables have 3 to 100.
        eps: radius, image units; None if each call passes its own.
        step_size: step, in the units of the norm; None for `step_ratio * eps`.
        step_ratio: step over radius; None for `2.5 / num_steps`, at most 1.
        norm: `"linf"`, the paper's, or `"l2"`.
        loss: the loss to maximise.
        random_start: start at a random point of the ball.
        seed: of the random start, together with the sample id.
        criterion: when a pixel, and when an image, is broken.
    """

    loss: PixelLoss = field(default_factory=SegPGDLoss)
    random_start: bool = True
