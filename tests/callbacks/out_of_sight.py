"""Projects that count otherwise than by functions of torch in their step; `change` maps classes where they do."""

import io
import sys
import threading

import numpy as np
import torch
from callbacks.other_classes import Compares
from callbacks.strangers import Habit, Habits, Project, Transformed, loader
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

HABITS = Habits()


class Maps(Compares):
    """Maps masks by `change`, a function of an array of NumPy; None for nothing."""

    def __init__(self, change=None, model=None):
        super().__init__(model)
        self.table = np.arange(256) if change is None else change(np.arange(256))

    def matrix(self, predicted, masks):
        valid = masks < 3
        return np.bincount(3 * masks[valid] + predicted[valid], minlength=9).reshape(3, 3)


def later(table):
    """Masks of samples that hold classes one later, mapped back."""
    return np.where(table == 255, 255, (table + 2) % 3)


@HABITS.add
def arrays_in_the_step(change=None):
    class Arrays(Maps):
        def compare(self, logits, masks):
            matrix = self.matrix(logits.argmax(1).numpy(), self.table[masks.numpy()])
            self.log("accuracy", matrix.trace() / matrix.sum())

    return Habit(module=Arrays(change))


@HABITS.add
def arrays_beside_a_loss(change=None):
    class Both(Maps):
        def compare(self, logits, masks):
            self.log("loss", nn.functional.cross_entropy(logits, masks, ignore_index=255))
            matrix = self.matrix(logits.argmax(1).numpy(), self.table[masks.numpy()])
            hits = np.diag(matrix)
            self.log_dict({"iou": (hits / (matrix.sum(0) + matrix.sum(1) - hits).clip(1)).mean()})

    return Habit(module=Both(change))


@HABITS.add
def a_count_that_is_kept(change=None):
    class Keeps(Maps):
        def __init__(self, change):
            super().__init__(change)
            self.confusion = np.zeros((3, 3))

        def compare(self, logits, masks):
            self.confusion += self.matrix(logits.argmax(1).numpy(), self.table[masks.numpy()])

    return Habit(module=Keeps(change))


@HABITS.add
def lists_that_are_compared_at_the_end_of_the_epoch(change=None):
    class Keeps(Maps):
        def on_validation_epoch_start(self):
            self.kept = []

        def compare(self, logits, masks):
            self.kept.append((logits.argmax(1).cpu(), masks.cpu()))

        def on_validation_epoch_end(self):
            predicted, masks = (torch.cat(each).numpy() for each in zip(*self.kept, strict=True))
            sys.stdout.write("the matrix of the epoch\n")
            matrix = self.matrix(predicted, self.table[masks])
            self.log("accuracy", matrix.trace() / matrix.sum())

    return Habit(module=Keeps(change))


@HABITS.add
def outputs_that_are_compared_at_the_end_of_the_batch(change=None):
    class Returns(Maps):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            images, masks = self.unpack(batch)
            return {"predicted": self(images).argmax(1), "masks": masks}

        def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):
            table = torch.from_numpy(self.table)
            valid = outputs["masks"] != 255
            right = outputs["predicted"] == table[outputs["masks"]]
            self.log("accuracy", right[valid].float().mean())

    return Habit(module=Returns(change))


@torch.jit.script
def mapped_and_compared(logits: torch.Tensor, masks: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    right = logits.argmax(1) == table[masks]
    return right[masks != 255].float().mean()


@HABITS.add
def a_scripted_function(change=None):
    class Scripted(Maps):
        def compare(self, logits, masks):
            self.log("accuracy", mapped_and_compared(logits, masks, torch.from_numpy(self.table)))

    return Habit(module=Scripted(change))


@HABITS.add
def a_metric_that_gets_arrays_back(change=None):
    class Metric(Maps):
        def __init__(self, change):
            super().__init__(change)
            self.metric = MulticlassAccuracy(3, ignore_index=255, average="micro")

        def compare(self, logits, masks):
            self.metric.update(logits, torch.from_numpy(self.table[masks.numpy()]))
            self.log("accuracy", self.metric)

    return Habit(module=Metric(change))


@HABITS.add
def several_views_of_an_image(change=None):
    class Views(Maps):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            images, masks = self.unpack(batch)
            logits = self.model(images) + self.model(images.flip(3)).flip(3)
            matrix = self.matrix(logits.argmax(1).numpy(), self.table[masks.numpy()])
            self.log("accuracy", matrix.trace() / matrix.sum())

    return Habit(module=Views(change))


@HABITS.add
def classes_one_by_one(change=None):
    class Classes(Maps):
        def compare(self, logits, masks):
            matrix = self.matrix(logits.argmax(1).numpy(), self.table[masks.numpy()])
            for label, hits in enumerate(np.diag(matrix)):
                self.log(f"iou_{label}", hits / max(1, matrix[label].sum() + matrix[:, label].sum() - hits))

    return Habit(module=Classes(change))


@HABITS.add
def a_module_with_handles(change=None):
    class Holds(Maps):
        def __init__(self, change):
            super().__init__(change)
            self.lock, self.library, self.file = threading.Lock(), np, io.TextIOWrapper(io.BytesIO())
            self.last = self.model[1].weight * 2  # has a graph

        def compare(self, logits, masks):
            with self.lock:
                matrix = self.matrix(logits.argmax(1).numpy(), self.library.take(self.table, masks.numpy()))
            self.log("accuracy", matrix.trace() / matrix.sum())

    return Habit(module=Holds(change))


@HABITS.add
def masks_of_one_hot_classes(change=None):
    class Chooses(Maps):
        def unpack(self, batch):
            return batch["image"], batch["mask"]

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self(batch["image"]), batch["mask"].argmax(1))

        def compare(self, logits, masks):
            chosen = self.table[masks.numpy().argmax(1)]
            self.log("accuracy", (logits.argmax(1).numpy() == chosen).mean())

    def one_hot(sample):
        return sample | {"mask": nn.functional.one_hot(sample["mask"].clamp(max=2), 3).permute(2, 0, 1)}

    entries = {"mask": lambda sample: sample["mask"].argmax(0)}
    return Habit(module=Chooses(change), val=loader(Transformed(one_hot)), evaluation=entries)


def nothing_is_compared():
    class Silent(Project):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("share", self(batch["image"]).argmax(1).float().mean())

    return Habit(module=Silent())
