"""Training of a segmentation network on clean batches, with exact validation scores."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.scheduler.scheduler import Scheduler as TimmScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, PolynomialLR

from segrobust.functional.logits import require_class_logits
from segrobust.inputs import explain_refusals, require_network
from segrobust.label_space import LabelSpace
from segrobust.metrics import SegmentationConfusion
from segrobust.networks import load_backbone, load_weights
from segrobust.networks.network_record import RECORD, make_record
from segrobust.tasks.batches import as_batch, check_first, check_labels
from segrobust.tasks.finite_loss import require_finite
from segrobust.tasks.first_labels import FirstLabels
from segrobust.tasks.learning_rates import check_scales, parameter_groups
from segrobust.tasks.log_directory import log_directory
from segrobust.tasks.resumption import ResumableTask

ScheduleCallable = Callable[[Optimizer, int], LRScheduler | TimmScheduler]
"""Makes a schedule from an optimiser and the number of optimiser steps of the whole training."""


def adamw(parameters: Any) -> Optimizer:
    """The default optimiser of tasks."""
    return AdamW(parameters, lr=1e-3, weight_decay=1e-2)


def polynomial(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The default schedule of tasks."""
    return PolynomialLR(optimizer, total_steps, power=0.9)


class SegmentationTask(ResumableTask):
    """Trains a network by cross-entropy over valid pixels and validates it by mIoU^D and pixel accuracy.

    Batches are those of `segrobust.data`, `image` `(B, 3, H, W)` in [0, 1], `mask` `(B, H, W)`, `sample_id` `(B,)`, or
    of any loader of `(image, mask)` or mappings, in the forms that `segrobust.inputs` lists. Without `sample_id`,
    samples are numbered by batch and position. The first batch of each stage is checked.
    Logs `train/loss`, `val/clean/loss`, `val/clean/miou` and `val/clean/acc` (`test/...` in tests), the scores in
    percent. A sample that a distributed sampler repeats counts once.

    Nothing goes into the checkpoint's hyper-parameters: a checkpoint must not override the settings of a later run.

    Args:
        network: maps images in [0, 1] to logits `(B, K, H, W)`; normalisation is part of it
            (`segrobust.networks.Normalized`).
        optimizer: makes the optimiser from the parameters; AdamW (1e-3, weight decay 1e-2) by default.
        schedule: makes the learning-rate schedule from the optimiser and the total number of steps, stepped after each
            step: of torch (`PolynomialLR`, `CosineAnnealingLR`) or of timm (`CosineLRScheduler` and the like with
            `t_in_epochs: false`); polynomial decay of power 0.9 by default.
        lr_scale: factors of the learning rate by the start of parameters' names in the network, such as
            `{"encoder": 0.1}`; the longest matching start counts, and parameters without one keep the rate.
        ignore_index: label of void pixels; it may be a class of the network, whose pixels then do not count. A data
            module with a label space must have the same one, unless it is such a class.
        initial_weights: file to start from (`segrobust.networks.load_weights`); the network's own initialisation if
            None.
        initial_weights_part: the copy to take from that file, where it holds several (`load_weights(part=...)`).
        initial_backbone: file of a classifier to start the backbone from (`segrobust.networks.load_backbone`), such as
            a robust one; unused weights of it are logged.

    Raises:
        ValueError: a start that no parameter has, a factor that is not positive, or both initial weights and an initial
            backbone.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        optimizer: OptimizerCallable = adamw,
        schedule: ScheduleCallable = polynomial,
        lr_scale: Mapping[str, float] | None = None,
        ignore_index: int = 255,
        initial_weights: str | None = None,
        initial_weights_part: str | None = None,
        initial_backbone: str | None = None,
    ) -> None:
        super().__init__()
        require_network(network, by_gradients=False, without_values=True)
        self.network = network
        self._lr_scale = {} if lr_scale is None else check_scales(network, lr_scale)
        if initial_weights is not None and initial_backbone is not None:
            raise ValueError("initial_weights replace those of initial_backbone; give one of the two")
        if initial_weights is not None:
            loaded = load_weights(network, initial_weights, part=initial_weights_part)
            rank_zero_info(f"{initial_weights}: {loaded}")
        elif initial_weights_part is not None:
            raise ValueError(f"initial_weights_part={initial_weights_part!r} has no effect without initial_weights")
        if initial_backbone is not None:
            rank_zero_info(f"{initial_backbone}: {load_backbone(network, initial_backbone)}")
        self.ignore_index = ignore_index
        self._make_optimizer = optimizer
        self._make_schedule = schedule
        self._folder = Path()
        self._confusion: SegmentationConfusion | None = None
        self._is_checked: set[str] = set()
        self._first_labels = FirstLabels(ignore_index)
        self._num_classes = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images in [0, 1]: `(B, 3, H, W) -> (B, K, H, W)`.

        Raises:
            TypeError: the network returns something else than a tensor of logits.
            ValueError: logits of another size than the images, or of one class.
        """
        with explain_refusals(self.network, images):
            return require_class_logits(self.network(images), images)

    def batch(self, given: Any, batch_idx: int, stage: str) -> dict[str, Tensor]:
        """A batch of any loader as `image`, `mask` and `sample_id`; the first one of a stage is checked.

        Args:
            given: from the loader.
            batch_idx: its number.
            stage: "training", "validation" or "test".
        """
        number = batch_idx * self.trainer.world_size + self.trainer.global_rank
        batch = as_batch(given, number)
        if stage == "training" and self.trainer.is_global_zero:
            self._first_labels.add(batch)
        if stage not in self._is_checked:
            check_first(batch, stage)
            self._is_checked.add(stage)
            has_ids = isinstance(given, Mapping) and "sample_id" in given
            if stage != "training" and self.trainer.world_size > 1 and not has_ids:
                rank_zero_warn(
                    f"batches of the {stage} have no sample_id: samples that the sampler repeats, so that all "
                    "processes have as many, count twice; add the position in the data set as sample_id"
                )
        return batch

    def setup(self, stage: str) -> None:
        """Compares the label of void with that of the data.

        Raises:
            ValueError: the data module has another one, which would be trained as a class.
        """
        super().setup(stage)
        space = self._label_space()
        if space is None or self.ignore_index in (space.ignore_index, *range(space.num_classes)):
            return
        name = "" if space.void_class is None else f", class {space.void_class!r}"
        raise ValueError(
            f"void is {space.ignore_index}{name} in the data and {self.ignore_index} in the task, which would train it "
            f"as a class: give the task ignore_index={space.ignore_index}"
        )

    def on_train_start(self) -> None:
        """Finds the folder of the training on all processes, because later one process alone may need it."""
        super().on_train_start()
        self._folder = log_directory(self.trainer) or Path(self.trainer.default_root_dir)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        batch = self.batch(batch, batch_idx, "training")
        loss = self.loss(self(batch["image"]), batch["mask"])
        require_finite(loss, batch, self.trainer, self._folder)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Reports what the first masks hold, once there are enough of them."""
        del outputs, batch
        space = self._label_space()
        is_last = batch_idx + 1 >= self.trainer.num_training_batches
        self._first_labels.report(self._num_classes, space, is_last=is_last)

    def _label_space(self) -> LabelSpace | None:
        space = getattr(getattr(self.trainer, "datamodule", None), "label_space", None)
        return space if isinstance(space, LabelSpace) else None

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over valid pixels; 0 if there is none: `(B, K, H, W), (B, H, W) -> ()`."""
        if labels.is_cuda and not self._num_classes:  # there, foreign labels end the process without a message
            check_labels(labels, logits.shape[1], self.ignore_index)
        self._num_classes = logits.shape[1]
        try:
            total = F.cross_entropy(logits.float(), labels, ignore_index=self.ignore_index, reduction="sum")
        except IndexError:  # of a label, on the CPU
            check_labels(labels, logits.shape[1], self.ignore_index)
            raise
        num_valid = (labels != self.ignore_index).sum().clamp_min(1)
        return torch.div(total, num_valid)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the record of the network as text: version, classes, normalisation (`read_record`)."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[RECORD] = make_record(self.network, self._label_space())

    def on_validation_epoch_start(self) -> None:
        """Resets the counts, also those of an interrupted validation."""
        self._confusion = None

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Counts the pixels of a batch."""
        batch = self.batch(batch, batch_idx, "validation")
        loss = self.loss(self._count(batch), batch["mask"])
        self.log("val/clean/loss", loss, sync_dist=True, batch_size=len(batch["mask"]))

    def on_validation_epoch_end(self) -> None:
        """Scores of the whole validation set, the same on every rank."""
        self._log_scores("val/clean")

    def on_test_epoch_start(self) -> None:
        """Resets the counts, also those of an interrupted test."""
        self._confusion = None

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Counts the pixels of a batch."""
        self._count(self.batch(batch, batch_idx, "test"))

    def on_test_epoch_end(self) -> None:
        """Scores of the whole test set, the same on every rank."""
        self._log_scores("test/clean")

    def _count(self, batch: dict[str, Tensor]) -> Tensor:
        """Counts the pixels of a batch; returns its logits."""
        logits: Tensor = self(batch["image"])
        if self._confusion is None:  # the first batch has the number of classes
            self._confusion = SegmentationConfusion(logits.shape[1], self.ignore_index).to(logits.device)
        self._confusion.update(logits.argmax(1), batch["mask"], batch["sample_id"])
        return logits

    def _log_scores(self, prefix: str) -> None:
        if self._confusion is None:
            return
        scores = self._confusion.compute()
        if math.isnan(scores.miou):
            rank_zero_warn(
                f"{prefix}: no pixel of the masks is valid, all are void (ignore_index={self.ignore_index}), so that "
                "there are no scores; set ignore_index of the task to the label of void pixels in your masks"
            )
        values = {f"{prefix}/miou": 100 * scores.miou, f"{prefix}/acc": 100 * scores.accuracy}
        # float32: some accelerators have no float64
        self.log_dict({key: torch.tensor(value, dtype=torch.float32) for key, value in values.items()}, prog_bar=True)
        self._confusion = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser, and its schedule over all steps of the training."""
        if self._lr_scale:
            optimizer = self._make_optimizer(parameter_groups(self.network, self._lr_scale))
            for group in optimizer.param_groups:
                group["lr"] *= group["lr_scale"]
        else:
            optimizer = self._make_optimizer(self.parameters())
        schedule = self._make_schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: LRScheduler | TimmScheduler, metric: Any) -> None:
        """One step of the schedule; schedules of timm get the number of the step."""
        del metric
        if isinstance(scheduler, TimmScheduler):
            scheduler.step_update(self.global_step)
        else:
            scheduler.step()
