"""Adversarial training: the network learns from batches that any attack has perturbed."""

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from segrobust.attacks import Attack
from segrobust.tasks.segmentation import ScheduleCallable, SegmentationTask, _adamw, _polynomial


class AdversarialTask(SegmentationTask):
    """Trains on attacked batches (Madry et al., ICLR 2018), validates like `SegmentationTask`.

    The attack runs without judging (`Attack.perturb`), on the bare network in evaluation mode and float32 whatever the
    precision of the training, and leaves no gradient in the parameters. K steps cost K forward and K backward passes
    to the input on top of the training step.

    Published "robust" segmentation networks that were trained on half clean batches fall to strong attacks
    (Croce et al., ECCV 2024); `clean_fraction` is therefore 0 by default, and 0.5 reproduces them.

    Also logs `train/adv_loss`, and `train/clean_loss` where part of the batch stays clean.

    Args:
        network: see `SegmentationTask`.
        attack: perturbs the training images; a fixed-budget attack needs its `eps`.
        clean_fraction: share of every batch, in [0, 1), that stays clean (rounded down).
        optimizer: see `SegmentationTask`.
        schedule: see `SegmentationTask`.
        ignore_index: label of void pixels.
        initial_weights: see `SegmentationTask`.

    Raises:
        ValueError: a clean fraction outside [0, 1), or a fixed-budget attack without a radius.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        attack: Attack,
        clean_fraction: float = 0.0,
        optimizer: OptimizerCallable = _adamw,
        schedule: ScheduleCallable = _polynomial,
        ignore_index: int = 255,
        initial_weights: str | None = None,
    ) -> None:
        super().__init__(
            network, optimizer=optimizer, schedule=schedule, ignore_index=ignore_index, initial_weights=initial_weights
        )
        if not 0 <= clean_fraction < 1:
            raise ValueError(f"clean_fraction must lie in [0, 1), got {clean_fraction}; for 1 use SegmentationTask")
        if not attack.minimal_norm and attack.radius_field is None:
            raise ValueError(f"adversarial training needs a radius: set eps of {attack!r}, e.g. 4/255 = 0.01569")
        self.attack = attack
        self.clean_fraction = clean_fraction

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of the batch, its last images perturbed."""
        del batch_idx
        images, labels = batch["image"], batch["mask"]
        num_clean = int(self.clean_fraction * len(images))
        attacked = self.attack.perturb(
            self.network,
            images[num_clean:],
            labels[num_clean:],
            ignore_index=self.ignore_index,
            # Another random start for the same sample in every epoch.
            sample_ids=batch["sample_id"][num_clean:] + (self.current_epoch << 40),
        )
        logits = self(torch.cat((images[:num_clean], attacked)))
        loss = self.loss(logits, labels)
        size = len(images)
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        with torch.no_grad():
            self.log("train/adv_loss", self.loss(logits[num_clean:], labels[num_clean:]), batch_size=size - num_clean)
            if num_clean:
                self.log("train/clean_loss", self.loss(logits[:num_clean], labels[:num_clean]), batch_size=num_clean)
        return loss
