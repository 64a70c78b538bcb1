"""Projects whose `validation_step` compares predictions with other classes than the masks of their samples have."""

import torch
from callbacks.strangers import Habit, Habits, Project, Transformed, loader, whole
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

HABITS = Habits()


def later(masks):
    """Classes one later, as where files begin with another class."""
    return torch.where(masks == 255, masks, (masks + 1) % 3)


def earlier(masks):
    return torch.where(masks == 255, masks, (masks + 2) % 3)


def shifted(**settings):
    return loader(Transformed(lambda sample: sample | {"mask": later(sample["mask"])}), **settings)


class Compares(Project):
    """Has its masks and logits compared by a function that the habits below override."""

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        images, masks = self.unpack(batch)
        self.compare(self(images), masks)

    def compare(self, logits, masks):
        self.counts.add(logits, masks)


@HABITS.add
def masks_mapped_before_the_network():
    class Maps(Project):
        def unpack(self, batch):
            return batch["image"], earlier(batch["mask"])

    return Habit(module=Maps(), val=shifted())


@HABITS.add
def masks_mapped_after_the_network():
    class Maps(Compares):
        def compare(self, logits, masks):
            self.counts.add(logits, earlier(masks))

    return Habit(module=Maps(), val=shifted())


@HABITS.add
def masks_mapped_by_a_table():
    class Maps(Compares):
        table = torch.tensor([2, 0, 1, *range(3, 256)])

        def compare(self, logits, masks):
            self.counts.add(logits, self.table[masks.long()])

    return Habit(module=Maps(), val=shifted())


@HABITS.add
def masks_mapped_in_place():
    class Maps(Project):
        def unpack(self, batch):
            masks, old = batch["mask"], batch["mask"].clone()
            for label in range(3):
                masks[old == label] = (label + 2) % 3
            return batch["image"], masks

    return Habit(module=Maps(), val=shifted())


@HABITS.add
def masks_mapped_in_a_metric():
    class Shifted(MulticlassConfusionMatrix):
        def update(self, preds, target):
            super().update(preds, earlier(target))

    class Maps(Compares):
        def __init__(self):
            super().__init__()
            self.matrix = Shifted(3, ignore_index=255)

        def compare(self, logits, masks):
            self.matrix.update(logits, masks)
            self.counts.add(logits, earlier(masks))

        def on_validation_epoch_end(self):
            assert self.matrix.compute().equal(self.counts.matrix)
            self.matrix.reset()

    return Habit(module=Maps(), val=shifted())


@HABITS.add
def masks_mapped_in_the_loss():
    class Loss(nn.CrossEntropyLoss):
        def forward(self, logits, masks):
            return super().forward(logits, earlier(masks))

    class Maps(Compares):
        criterion = Loss(ignore_index=255)

        def compare(self, logits, masks):
            self.log("loss", self.criterion(logits, masks))

    return Habit(module=Maps(), val=shifted())


@HABITS.add
def masks_kept_in_lists_are_mapped():
    class Keeps(Compares):
        def on_validation_epoch_start(self):
            super().on_validation_epoch_start()
            self.kept = []

        def compare(self, logits, masks):
            self.kept.append((logits.cpu(), earlier(masks).cpu()))

        def on_validation_epoch_end(self):
            for logits, masks in self.kept:
                self.counts.add(logits, masks)

    return Habit(module=Keeps(), val=shifted())


@HABITS.add
def predictions_mapped():
    class Maps(Compares):
        def compare(self, logits, masks):
            predicted = (logits.argmax(1) + 1) % 3
            self.counts.add(nn.functional.one_hot(predicted, 3).movedim(-1, 1), masks)

    return Habit(module=Maps(), val=shifted())


@HABITS.add
def channels_permuted_after_the_network():
    class Maps(Compares):
        def compare(self, logits, masks):
            self.counts.add(logits[:, [2, 0, 1]], masks)

    return Habit(module=Maps(), val=shifted())


@HABITS.add
def first_class_ignored_by_the_metric():
    class Ignores(Compares):
        def __init__(self):
            super().__init__()
            self.accuracy = MulticlassAccuracy(3, ignore_index=0, average="micro")

        def compare(self, logits, masks):
            valid = masks != 255
            predicted = logits.argmax(1)[valid]
            self.accuracy.update(predicted, masks[valid])
            self.counts.add(logits, masks.masked_fill(masks == 0, 255))

    return Habit(module=Ignores())


@HABITS.add
def first_class_left_out_by_an_index():
    class Ignores(Compares):
        def compare(self, logits, masks):
            right = logits.argmax(1) == masks
            self.log("accuracy", right[(masks != 0) & (masks != 255)].float().mean())

    return Habit(module=Ignores())


@HABITS.add
def first_label_is_void():
    class Reduces(Compares):
        def compare(self, logits, masks):
            masks = masks.clone()
            masks[masks == 0] = 255
            masks = masks - 1
            masks[masks == 254] = 255
            self.counts.add(logits, masks)

    return Habit(module=Reduces())


@HABITS.add
def two_classes_merged():
    class Merges(Compares):
        def compare(self, logits, masks):
            merged = masks.masked_fill(masks == 2, 1)
            predicted = logits.argmax(1).clamp(max=1)
            self.log("accuracy", (predicted == merged)[masks != 255].float().mean())

    return Habit(module=Merges(whole()))
