"""TRADES for segmentation: accuracy on clean images, and predictions that do not change under perturbations.

Source: H. Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019, eq. (5); here
per pixel.
"""

from typing import Any

import torch
from torch import Tensor, nn

from segrobust.attacks import KLPGD, Attack
from segrobust.functional.pixel_losses import kl_divergence
from segrobust.tasks.adversarial_training import AdversarialTask, Losses
from segrobust.tasks.ramp import Ramp


class TRADESTask(AdversarialTask):
    """Minimises `CE(f(x), y) + beta * KL(p(x) || p(x'))`, both means over the valid pixels.

    The released code divides the divergence by the batch size alone, which would multiply beta by the number of pixels.
    As there, the gradient flows through both predictions. Clean and perturbed images pass through the network as one
    batch, so that batch normalisation sees both (paper's code: one after the other). K steps of the attack cost
    K + 1 forward and K backward passes on top of a training step of twice the batch.

    Args:
        network: see `SegmentationTask`.
        attack: perturbs the training images; `KLPGD` is the paper's.
        beta: weight of the divergence; the paper's 6 is for classification.
        ramp: see `AdversarialTask`.
        settings: optimiser, schedule, initial weights and so on, see `SegmentationTask`.

    Raises:
        ValueError: a weight that is not positive; see also `AdversarialTask`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        attack: Attack = KLPGD(num_steps=3, eps=4 / 255, step_size=0.01),  # noqa: B008 - frozen
        beta: float = 6.0,
        ramp: Ramp | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(network, attack=attack, clean_fraction=0.0, ramp=ramp, **settings)
        if not beta > 0:
            raise ValueError(f"beta must be positive, got {beta}; for 0 use SegmentationTask")
        self.beta = beta

    def losses(self, batch: dict[str, Tensor], images: Tensor, num_clean: int) -> Losses:
        """See `AdversarialTask`; all images are perturbed."""
        del num_clean
        labels = batch["mask"]
        clean, attacked = self(torch.cat((batch["image"], images))).float().chunk(2)
        valid = labels != self.ignore_index
        divergence = kl_divergence(clean.log_softmax(1), attacked) * valid
        clean_loss = self.loss(clean, labels)
        return Losses(
            total=clean_loss + self.beta * divergence.sum() / valid.sum().clamp_min(1),
            adversarial=self.loss(attacked.detach(), labels),
            clean=clean_loss.detach(),
        )
