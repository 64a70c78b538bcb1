"""LightningModules of projects that know nothing of segrobust, which count the pixels that their validation gets right.

The layers have been trained on images under ImageNet's normalisation, so that another input gives another accuracy.
"""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from callbacks.tiny import TinyScenes, make_trainer
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation
from segrobust.networks.normalized import IMAGENET_MEAN, IMAGENET_STD

MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))


def normalize(images: Tensor) -> Tensor:
    return (images - MEAN) / STD


class Scenes(TinyScenes):
    """The same with more noise, so that every function of an image gets another share of its pixels right."""

    def __init__(self, size: int = 6, seed: int = 0) -> None:
        super().__init__(size, seed)
        noise = torch.randn(self.images.shape, generator=torch.Generator().manual_seed(100 + seed))
        self.images = (self.images + 0.2 * noise).clamp(0, 1)


class Counts:
    """Confusion matrix of all pixels but void ones, added up class by class."""

    def __init__(self, num_classes: int = 3) -> None:
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def add(self, logits: Tensor, masks: Tensor) -> None:
        predicted = logits.argmax(1)
        for true in range(len(self.matrix)):
            for found in range(len(self.matrix)):
                self.matrix[true, found] += ((masks == true) & (predicted == found)).sum()

    @property
    def accuracy(self) -> float:
        return 100 * (self.matrix.trace() / self.matrix.sum()).item()

    @property
    def miou(self) -> float:
        """Mean over the classes that occur."""
        hit, occur = self.matrix.diag(), self.matrix.sum(1)
        return 100 * (hit / (occur + self.matrix.sum(0) - hit))[occur > 0].mean().item()


def teach(network: nn.Module, function: Any = normalize, steps: int = 60) -> None:
    """Trains a network on a function of the images of `Scenes`."""
    scenes = Scenes(16, seed=7)
    images = function(scenes.images)
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), scenes.masks, ignore_index=255).backward()
        optimizer.step()


@functools.cache
def _trained(channels: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(8, 3, 1)
        )
        teach(layers, lambda images: normalize(images)[:, :channels])
    return layers


def trained(channels: int = 3) -> nn.Sequential:
    """Layers with batch normalisation and dropout that classify normalised images of `Scenes`."""
    return copy.deepcopy(_trained(channels))


class NormalizeFirst(nn.Module):
    """A layer that normalises."""

    def forward(self, images: Tensor) -> Tensor:
        return normalize(images)


def whole() -> nn.Sequential:
    """The same for images in [0, 1]."""
    return nn.Sequential(NormalizeFirst(), *trained())


class Project(LightningModule):
    """A usual project: batches are mappings, and the network is called `model`."""

    ignore_index = 255

    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = whole() if model is None else model
        self.counts = Counts()

    def unpack(self, batch: Any) -> tuple[Tensor, Tensor]:
        return batch["image"], batch["mask"]

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, masks = self.unpack(batch)
        return nn.functional.cross_entropy(self(images), masks, ignore_index=self.ignore_index)

    def on_validation_epoch_start(self) -> None:
        self.counts = Counts()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        images, masks = self.unpack(batch)
        self.counts.add(self(images), masks)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Pairs(Project):
    """The same, with tuples as batches."""

    def unpack(self, batch: Any) -> tuple[Tensor, Tensor]:
        return batch


class Transformed(Dataset[Any]):
    """A function of the samples of another data set."""

    def __init__(self, function: Any, size: int = 6) -> None:
        self.scenes, self.function = Scenes(size), function

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Any:
        return self.function(self.scenes[index])


def loader(dataset: Dataset[Any], **settings: Any) -> DataLoader[Any]:
    return DataLoader(dataset, **({"batch_size": 2} | settings))


@dataclass(frozen=True, kw_only=True)
class Habit:
    """One project and the evaluation in it; all images are attacked.

    Attributes:
        module: the project.
        val: its validation loader, or loaders, or None if `data` gives them.
        data: its data module.
        evaluation: arguments of `RobustnessEvaluation`.
        before: callbacks that are listed before the evaluation.
        after: callbacks that are listed after it.
        trainer: arguments of the trainer.
    """

    module: LightningModule
    val: Any = field(default_factory=lambda: loader(Scenes()))
    data: LightningDataModule | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[Callback, ...] = ()
    after: tuple[Callback, ...] = ()
    trainer: Mapping[str, Any] = field(default_factory=dict)


class Habits(dict[str, Any]):
    """Functions that make a `Habit`, by their names."""

    def add(self, make: Any) -> Any:
        self[make.__name__] = make
        return make


def fit(habit: Habit, root: Path, **evaluation: Any) -> tuple[Counts, RobustnessEvaluation]:
    """Trains, and gives what the last validation counted and the evaluation."""
    settings = {"network": "model", "max_images": None, "every_n_epochs": 1, "panels": 0, "eps": (4 / 255,)}
    robustness = RobustnessEvaluation({"fgsm": FGSM()}, **(settings | dict(habit.evaluation) | evaluation))
    trainer = make_trainer(root, *habit.before, robustness, *habit.after, **habit.trainer)
    if habit.data is not None:
        trainer.fit(habit.module, datamodule=habit.data)
    else:
        train: DataLoader[Any] = habit.val if isinstance(habit.val, DataLoader) else loader(Scenes())
        trainer.fit(habit.module, train, habit.val)
    return habit.module.counts, robustness


def clean(robustness: RobustnessEvaluation) -> tuple[float, float]:
    """Accuracy and mIoU of the images without attack, as the evaluation measured them last."""
    values = robustness.history[-1].values
    return tuple(values[f"{robustness.prefix('val')}/robust_subset/clean_{name}"] for name in ("acc", "miou"))
