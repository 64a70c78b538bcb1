"""Adversarial training: the network is trained on batches that an attack has perturbed."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from segrobust.attacks import Attack
from segrobust.attacks.core.problem import BatchInputs
from segrobust.functional.modes import attackable
from segrobust.tasks.finite_loss import require_finite
from segrobust.tasks.ramp import Ramp
from segrobust.tasks.segmentation import SegmentationTask

_EPOCH_SHIFT = 40
"""Number of bits of sample ids in the seeds of random starts; the epoch is in the bits above."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Losses of one training batch, each a mean over valid pixels: `()`.

    Attributes:
        total: the loss that is minimised.
        adversarial: cross-entropy of the perturbed images.
        clean: cross-entropy of the clean images of the batch; None if there are none.
    """

    total: Tensor
    adversarial: Tensor
    clean: Tensor | None = None


class AdversarialTask(SegmentationTask):
    """Trains on attacked batches (Madry et al., ICLR 2018), validates like `SegmentationTask`.

    The attack determines the recipe: `PGD` for PGD-AT, `SegPGD` for SegPGD-AT (Gu et al., ECCV 2022), `RSFGSM` for fast
    adversarial training (Wong, Rice and Kolter, ICLR 2020). It runs without judging (`Attack.perturb`), on the
    unwrapped network in evaluation mode and float32, whatever the precision of the training
    (`segrobust.attacks.InBFloat16` lowers it), and leaves no gradient in the parameters. K steps cost K forward and K
    backward passes to the input on top of the training step.

    Published "robust" segmentation networks that were trained on half clean batches are broken by strong attacks (Croce
    et al., ECCV 2024); `clean_fraction` is therefore 0 by default, and 0.5 reproduces them.

    Also logs `train/adv_loss` and `train/clean_loss`. If no image of the batch stays clean, the latter is measured in
    evaluation mode at the steps that are logged. A loss that is not finite ends the training with an error that names
    the samples, and the batch is saved.

    Args:
        network: see `SegmentationTask`.
        attack: perturbs the training images; a fixed-budget attack needs its `eps`.
        clean_fraction: share of every batch, in [0, 1), that stays clean (rounded down).
        ramp: growth of the radius; None for the full radius from the first step on.
        settings: optimiser, schedule, initial weights and so on, see `SegmentationTask`.

    Raises:
        ValueError: a clean fraction outside [0, 1), a fixed-budget attack without a radius, or a ramp for an attack
            that has none.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        attack: Attack,
        clean_fraction: float = 0.0,
        ramp: Ramp | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(network, **settings)
        if not 0 <= clean_fraction < 1:
            raise ValueError(f"clean_fraction must lie in [0, 1), got {clean_fraction}; for 1 use SegmentationTask")
        if not attack.minimal_norm and attack.default_eps is None:
            raise ValueError(f"adversarial training needs a radius: set eps of {attack!r}, e.g. 4/255 = 0.01569")
        if ramp is not None and attack.default_eps is None:
            raise ValueError(f"{attack!r} has no radius that could grow; leave ramp out")
        self.attack = attack
        self.clean_fraction = clean_fraction
        self.ramp = ramp
        self._num_steps = 1

    def on_train_start(self) -> None:
        """Computes the number of steps of the training."""
        super().on_train_start()
        self._num_steps = int(self.trainer.estimated_stepping_batches)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of the batch, its last images perturbed."""
        batch = self.batch(batch, batch_idx, "training")
        num_clean = int(self.clean_fraction * len(batch["image"]))
        chosen = {name: values[num_clean:] for name, values in batch.items()}
        images = torch.cat((batch["image"][:num_clean], self.perturb(chosen)))
        losses = self.losses(batch, images, num_clean)
        require_finite(losses.total, batch, self.trainer, self._folder, images)
        self._log_losses(losses, batch, num_clean)
        return losses.total

    def perturb(self, batch: dict[str, Tensor]) -> Tensor:
        """Perturbed images of a batch, with another random start per sample in every epoch: `(B, C, H, W)`.

        Padding (`perturbable_mask` of the batch, see `segrobust.data.pad_collate`) is not perturbed.
        """
        inputs = self.attack_inputs(batch, self.eps())
        return self.attack.perturb(self.network, batch["image"], batch["mask"], **inputs)

    def attack_inputs(self, batch: dict[str, Tensor], eps: Tensor | float | None) -> BatchInputs:
        """Arguments of the attack on a batch besides images and labels, with the radius `eps`."""
        return {
            "ignore_index": self.ignore_index,
            "perturbable_mask": batch.get("perturbable_mask"),
            "eps": eps,
            "sample_ids": self.seeds(batch["sample_id"]),
        }

    def eps(self) -> float | None:
        """Radius of this step if it grows, image units; None for that of the attack."""
        if self.ramp is None or self.attack.default_eps is None:
            return None
        eps = self.ramp(self.global_step / self._num_steps) * self.attack.default_eps
        self.log("train/eps", eps)
        return eps

    def seeds(self, sample_ids: Tensor) -> Tensor:
        """Seeds of random starts, another one for the same sample in every epoch: `(B,) -> (B,)` int64."""
        return sample_ids + (self.current_epoch << _EPOCH_SHIFT)

    def losses(self, batch: dict[str, Tensor], images: Tensor, num_clean: int) -> Losses:
        """Losses of a batch.

        Args:
            batch: from the loader.
            images: `(B, C, H, W)`, the first `num_clean` of them clean, the others perturbed.
            num_clean: number of clean images.
        """
        labels = batch["mask"]
        logits = self(images)
        total = self.loss(logits, labels)
        if not num_clean:
            return Losses(total=total, adversarial=total.detach())
        logits = logits.detach()
        return Losses(
            total=total,
            adversarial=self.loss(logits[num_clean:], labels[num_clean:]),
            clean=self.loss(logits[:num_clean], labels[:num_clean]),
        )

    def _log_losses(self, losses: Losses, batch: dict[str, Tensor], num_clean: int) -> None:
        size = len(batch["image"])
        self.log("train/loss", losses.total, batch_size=size)
        self.log("train/adv_loss", losses.adversarial, prog_bar=True, batch_size=size - num_clean)
        clean = losses.clean
        every: int = cast(Any, self.trainer).log_every_n_steps  # its type stubs lack it
        if clean is None and every and (self.global_step + 1) % every == 0:
            clean = self._clean_loss(batch)
        if clean is not None:
            self.log("train/clean_loss", clean, prog_bar=True, batch_size=num_clean or size)

    def _clean_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Loss of the clean images in evaluation mode, without effect on batch statistics and random generators."""
        with attackable(self.network), torch.no_grad():
            return self.loss(self.network(batch["image"]), batch["mask"])
