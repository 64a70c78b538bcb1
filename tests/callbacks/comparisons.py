"""Projects that compare predictions with the masks of their samples, each in another way."""

import numpy as np
import segmentation_models_pytorch as smp
import torch
from callbacks.other_classes import Compares
from callbacks.strangers import Habit, Habits, Scenes, Transformed, loader
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
)

HABITS = Habits()


@HABITS.add
def metrics_of_torchmetrics():
    class Metrics(Compares):
        def __init__(self):
            super().__init__()
            settings = {"num_classes": 3, "ignore_index": 255}
            self.metrics = MetricCollection(
                {
                    "micro": MulticlassAccuracy(**settings, average="micro"),
                    "macro": MulticlassAccuracy(**settings),
                    "top": MulticlassAccuracy(**settings, top_k=2),
                    "f1": MulticlassF1Score(**settings, average="none"),
                    "iou": MulticlassJaccardIndex(**settings),
                    "matrix": MulticlassConfusionMatrix(**settings),
                }
            )

        def compare(self, logits, masks):
            super().compare(logits, masks)
            self.metrics.update(logits.softmax(1), masks)

        def on_validation_epoch_end(self):
            assert self.metrics.compute()["matrix"].equal(self.counts.matrix)
            self.metrics.reset()

    return Habit(module=Metrics())


@HABITS.add
def one_metric_of_torchmetrics_called():
    class Metric(Compares):
        def __init__(self):
            super().__init__()
            self.metric = MulticlassJaccardIndex(3, ignore_index=255)

        def compare(self, logits, masks):
            self.log("iou", self.metric(logits, masks))

    return Habit(module=Metric())


@HABITS.add
def counts_of_smp():
    class Stats(Compares):
        def compare(self, logits, masks):
            predicted = logits.softmax(1).argmax(1)
            counts = smp.metrics.get_stats(predicted, masks, mode="multiclass", ignore_index=255, num_classes=3)
            self.log("iou", smp.metrics.iou_score(*counts, reduction="micro"))

    return Habit(module=Stats())


def usual_counts(predicted, masks):
    """Areas of intersection and union, as many projects count them."""
    valid = masks != 255
    predicted, masks = predicted[valid], masks[valid]
    right = predicted[predicted == masks]
    areas = [torch.histc(each.float(), bins=3, min=0, max=2) for each in (right, predicted, masks)]
    return areas[0], areas[1] + areas[2] - areas[0]


@HABITS.add
def areas_by_histograms():
    class Areas(Compares):
        def compare(self, logits, masks):
            for scores, mask in zip(logits, masks, strict=True):
                usual_counts(scores.argmax(0), mask)

    return Habit(module=Areas())


@HABITS.add
def matrix_by_bincount():
    class Matrix(Compares):
        def compare(self, logits, masks):
            predicted, masks = logits.argmax(1).flatten(), masks.flatten()
            valid = (masks >= 0) & (masks < 3)
            torch.bincount(3 * masks[valid] + predicted[valid], minlength=9).view(3, 3)

    return Habit(module=Matrix())


@HABITS.add
def classes_one_by_one():
    class Classes(Compares):
        def compare(self, logits, masks):
            predicted, valid = logits.argmax(1), masks != 255
            for label in range(3):
                both = (predicted == label) & (masks == label)
                either = ((predicted == label) | (masks == label)) & valid
                self.log(f"iou_{label}", both.sum() / either.sum())

    return Habit(module=Classes())


@HABITS.add
def clamped_masks_and_a_weight():
    class Weighted(Compares):
        def compare(self, logits, masks):
            weight = (masks != 255).float()
            right = (logits.argmax(1) == masks.clamp(max=2)).float()
            self.log("accuracy", (right * weight).sum() / weight.sum())

    return Habit(module=Weighted())


@HABITS.add
def losses_alone():
    class Losses(Compares):
        def compare(self, logits, masks):
            loss = nn.functional.cross_entropy(logits, masks, ignore_index=255, label_smoothing=0.1)
            dice = smp.losses.DiceLoss("multiclass", ignore_index=255)(logits, masks)
            focal = smp.losses.FocalLoss("multiclass", ignore_index=255)(logits, masks)
            lovasz = smp.losses.LovaszLoss("multiclass", ignore_index=255)(logits, masks)
            self.log("loss", loss + dice + focal + lovasz)

    return Habit(module=Losses())


@HABITS.add
def dice_loss_of_ones_own_without_the_first_class():
    class Dice(Compares):
        def compare(self, logits, masks):
            valid = (masks != 255)[:, None]
            true = nn.functional.one_hot(masks.clamp(max=2), 3).movedim(-1, 1) * valid
            shares = logits.softmax(1) * valid
            both = (shares * true).sum((0, 2, 3))
            self.log("loss", 1 - (2 * both / (shares + true).sum((0, 2, 3)))[1:].mean())

    return Habit(module=Dice())


@HABITS.add
def scattered_classes_and_a_gathered_loss():
    class Gathers(Compares):
        def compare(self, logits, masks):
            safe = masks.clamp(max=2)[:, None]
            weight = (masks != 255)[:, None]
            loss = -(logits.log_softmax(1).gather(1, safe) * weight).mean()
            true = torch.zeros_like(logits).scatter_(1, safe, 1.0)
            self.log("loss", loss + ((logits.sigmoid() - true).square() * weight).mean())

    return Habit(module=Gathers())


@HABITS.add
def a_loss_beside_it_is_of_something_else():
    class Edges(Compares):
        def compare(self, logits, masks):
            super().compare(logits, masks)
            foreground = ((masks > 0) & (masks != 255)).float()
            self.log("edge", nn.functional.binary_cross_entropy_with_logits(logits[:, 1:].logsumexp(1), foreground))
            self.log("found", ((logits.argmax(1) > 0) == (foreground > 0)).float().mean())

    return Habit(module=Edges())


@HABITS.add
def a_metric_beside_it_leaves_a_class_out():
    class Two(Compares):
        def __init__(self):
            super().__init__()
            self.all = MulticlassJaccardIndex(3, ignore_index=255)
            self.things = MulticlassJaccardIndex(3, ignore_index=0)

        def compare(self, logits, masks):
            self.all.update(logits, masks)
            self.things.update(logits, masks.clamp(max=2))

    return Habit(module=Two())


@HABITS.add
def both_get_the_numbers_of_files():
    class Renames(Compares):
        names = torch.tensor([7, 11, 26, *range(3, 256)])

        def compare(self, logits, masks):
            predicted, masks = self.names[logits.argmax(1)], self.names[masks]
            self.log("accuracy", (predicted == masks)[masks != 255].float().mean())

    return Habit(module=Renames())


@HABITS.add
def arrays_of_numpy():
    class Arrays(Compares):
        def compare(self, logits, masks):
            predicted, masks = logits.argmax(1).cpu().numpy(), np.asarray(masks)
            self.log("accuracy", float((predicted == masks)[masks != 255].mean()))

    return Habit(module=Arrays())


@HABITS.add
def lists_that_are_compared_at_the_end():
    class Keeps(Compares):
        def __init__(self):
            super().__init__()
            self.kept = []

        def compare(self, logits, masks):
            self.kept.append((logits.argmax(1).cpu(), masks.cpu()))

        def on_validation_epoch_end(self):
            assert len(self.kept) == (2 if self.trainer.sanity_checking else 3)
            for predicted, masks in self.kept:
                self.counts.add(nn.functional.one_hot(predicted, 3).movedim(-1, 1), masks)
            self.kept.clear()

    return Habit(module=Keeps())


@HABITS.add
def pictures_of_masks():
    class Draws(Compares):
        colours = torch.tensor([[0, 0, 0], [200, 0, 0], [0, 200, 0]])

        def compare(self, logits, masks):
            super().compare(logits, masks)
            drawn = self.colours[masks.clamp(max=2)]
            guessed = self.colours[logits.argmax(1)]
            torch.cat([drawn, guessed, (drawn - guessed).abs()], dim=2).byte().cpu().numpy()
            (80 * masks.clamp(max=2)).byte().cpu().numpy()

    return Habit(module=Draws())


@HABITS.add
def metric_of_small_logits():
    class Small(Compares):
        def compare(self, logits, masks):
            logits = nn.functional.avg_pool2d(logits, 2)
            masks = nn.functional.interpolate(masks[:, None].float(), logits.shape[2:], mode="nearest")[:, 0].long()
            self.log("accuracy", (logits.argmax(1) == masks)[masks != 255].float().mean())

    return Habit(module=Small())


@HABITS.add
def masks_of_other_numbers_that_both_map():
    class Maps(Compares):
        def unpack(self, batch):
            return batch["image"], batch["mask"] - 10

    scenes = Transformed(lambda sample: sample | {"mask": sample["mask"] + 10})
    return Habit(module=Maps(), val=loader(scenes), evaluation={"mask": lambda sample: sample["mask"] - 10})


@HABITS.add
def a_module_that_cannot_be_copied():
    class Holds(Compares):
        def __init__(self):
            super().__init__()
            self.open = (each for each in range(3))  # generators cannot be copied

    return Habit(module=Holds(), val=loader(Scenes()))
