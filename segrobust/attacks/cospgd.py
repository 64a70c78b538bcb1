"""CosPGD: PGD with pixels weighted by the agreement of their prediction with the ground truth.

Source: S. Agnihotri, S. Jung, M. Keuper, "CosPGD: an efficient white-box adversarial attack for pixel-wise prediction
tasks", ICML 2024 (arXiv 2302.02213), Algorithm 1.

| paper                     | here                | meaning                                       |
|---------------------------|---------------------|-----------------------------------------------|
| T                         | `num_steps`         | iterations                                    |
| alpha                     | `step_size`         | step                                          |
| cossim(Psi(f(x)), Psi'(y)) | `CosPGDLoss`       | weight of a pixel: softmax against one-hot    |
"""

from dataclasses import dataclass, field

from segrobust.attacks.core.losses import CosPGDLoss, PixelLoss
from segrobust.attacks.pgd import PGD


@dataclass(frozen=True, kw_only=True)
class CosPGD(PGD):
    """CosPGD, fixed-budget, l_inf or l2, untargeted or targeted (Agnihotri et al., ICML 2024).

    PGD from a random start on the cross-entropy weighted by the cosine between softmax and one-hot label (targeted: one
    minus that). The weight is held constant in the gradient, as in the released code. Of all iterates the one that
    breaks most pixels is returned (released code: the last), and void pixels are ignored (released code: their label is
    clamped to the last class). The paper attacks in l_inf at 8/255 with steps of 0.01, and in l2 at 64/255 and 128/255
    with steps of 0.1 and 0.2; here a step is `2.5 eps / num_steps` unless it is given.

    Args:
        num_steps: gradient steps; the paper's tables have 3 to 100.
        eps: radius, image units; None if each call passes its own.
        step_size: step, in the units of the norm; None for `step_ratio * eps`.
        step_ratio: step over radius; None for `2.5 / num_steps`, at most 1.
        norm: `"linf"` or `"l2"`.
        loss: the loss to maximise; `CosPGDLoss(activation="sigmoid")` as in SEA's reimplementation.
        random_start: start at a random point of the ball.
        seed: of the random start, together with the sample id.
        criterion: when a pixel, and when an image, is broken.
    """

    loss: PixelLoss = field(default_factory=CosPGDLoss)
    random_start: bool = True
