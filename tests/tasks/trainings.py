"""Short trainings of every recipe on eight generated scenes, through the real data module."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from callbacks.tiny import make_trainer
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import nn
from torch.optim import SGD

from segrobust.attacks import KLPGD, PGD, RSFGSM, LagrangianFMN, SegPGD, Untargeted
from segrobust.data import JointTransform, Labels, Pixels, SegmentationDataModule, SyntheticScenes, TrainTransform
from segrobust.networks import Normalized
from segrobust.tasks import (
    AdversarialTask,
    MinimalNormTask,
    PublishedPIRATTask,
    Ramp,
    SegmentationTask,
    TRADESTask,
)

EPS = 8 / 255
PGD_2 = PGD(num_steps=2, eps=EPS, random_start=True)


def scenes_network(dropout: float = 0.2, batch_norm: bool = True) -> nn.Module:
    """Nine classes; weights by the global generator."""
    norm = nn.BatchNorm2d(6) if batch_norm else nn.Identity()
    layers = (nn.Conv2d(3, 6, 3, padding=1), norm, nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(6, 9, 1))
    return Normalized(nn.Sequential(*layers))


def scenes(batch_size: int = 2, **settings: Any) -> SegmentationDataModule:
    train = SyntheticScenes(8, size=(32, 40), transform=TrainTransform(size=(24, 32)))
    val = SyntheticScenes(3, split="val", size=(32, 40))
    return SegmentationDataModule(train=train, val=val, batch_size=batch_size, **({"num_workers": 0} | settings))


@dataclass(frozen=True, kw_only=True)
class WithoutVoid(JointTransform):
    """Another transform, and class 0 in the place of void."""

    transform: TrainTransform

    def __call__(self, image: Pixels, mask: Labels, *, ignore_index: int) -> tuple[Pixels, Labels]:
        image, mask = self.transform(image, mask, ignore_index=ignore_index)
        return image, np.where(mask == ignore_index, 0, mask).astype(np.uint8)


def without_void(batch_size: int) -> SegmentationDataModule:
    """As many valid pixels in every image, so that the mean of means over parts of a batch is the mean over all."""
    transform = WithoutVoid(transform=TrainTransform(size=(24, 32)))
    train = SyntheticScenes(8, size=(32, 40), transform=transform)
    val = SyntheticScenes(2, split="val", size=(32, 40))
    return SegmentationDataModule(train=train, val=val, batch_size=batch_size, eval_batch_size=2, num_workers=0)


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return SGD(parameters, lr=0.1, momentum=0.9)


RECIPES: dict[str, Callable[[nn.Module], SegmentationTask]] = {
    "standard": lambda network: SegmentationTask(network, optimizer=_sgd),
    "pgd_at": lambda network: AdversarialTask(network, attack=PGD_2, optimizer=_sgd),
    "half": lambda network: AdversarialTask(network, attack=PGD_2, clean_fraction=0.5, optimizer=_sgd),
    "segpgd_at": lambda network: AdversarialTask(network, attack=SegPGD(num_steps=2, eps=EPS), optimizer=_sgd),
    "fgsm_rs": lambda network: AdversarialTask(network, attack=RSFGSM(eps=EPS), ramp=Ramp(), optimizer=_sgd),
    "trades": lambda network: TRADESTask(network, attack=KLPGD(num_steps=2, eps=EPS), beta=2, optimizer=_sgd),
    "minimal_norm": lambda network: MinimalNormTask(
        network,
        largest_eps=EPS,
        attack=LagrangianFMN(num_passes=3, criterion=Untargeted(apsr=0.8)),
        optimizer=_sgd,
    ),
    "pir_at_published": lambda network: PublishedPIRATTask(network, attack=PGD_2, optimizer=_sgd),
}


def train(
    root: Path,
    recipe: str,
    *callbacks: Callback,
    ckpt_path: str | None = None,
    dropout: float = 0.2,
    batch_norm: bool = True,
    data: SegmentationDataModule | None = None,
    **settings: Any,
) -> tuple[SegmentationTask, Trainer]:
    """Trains two epochs of four steps each."""
    seed_everything(7, workers=True, verbose=False)
    task = RECIPES[recipe](scenes_network(dropout, batch_norm))
    trainer = make_trainer(root, *callbacks, **({"max_epochs": 2} | settings))
    trainer.fit(task, data or scenes(), ckpt_path=ckpt_path, weights_only=True)
    return task, trainer
