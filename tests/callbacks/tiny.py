"""A tiny network, six images in memory, and a trainer that writes nowhere but where it is told."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segrobust.label_space import LabelSpace
from segrobust.networks import Normalized

SPACE = LabelSpace(names=("sky", "road", "tree"), palette=((0, 0, 255), (90, 90, 90), (0, 128, 0)))


class TinyScenes(Dataset[dict[str, Any]]):
    """Images whose classes are told by colour, with noise; the first column is void."""

    label_space = SPACE

    def __init__(self, size: int = 6, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        blocks = torch.randint(3, (size, 3, 4), generator=generator)
        self.masks = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
        colors = 0.35 + 0.3 * torch.eye(3)
        noise = 0.1 * torch.randn((size, 3, 24, 32), generator=generator)
        self.images = (colors[self.masks].permute(0, 3, 1, 2) + noise).clamp(0, 1)
        self.masks[:, :, 0] = 255

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "mask": self.masks[index], "sample_id": index}


class RestlessScenes(TinyScenes):
    """Draws from all global generators whenever it is read."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        random.random()
        np.random.rand()  # noqa: NPY002 - the global one
        torch.rand(1)
        return super().__getitem__(index)


class TinyPairs(Dataset[tuple[Tensor, Tensor]]):
    """The same as tuples, and with void at -1."""

    def __init__(self, size: int = 6) -> None:
        self.scenes = TinyScenes(size)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        mask = self.scenes.masks[index]
        return self.scenes.images[index], mask.masked_fill(mask == 255, -1)


def tiny_network(seed: int = 0, dropout: float = 0.1) -> nn.Module:
    """A convolution with batch normalisation and dropout, three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(8, 3, 1)
        )
    return Normalized(layers)


class OtherProject(LightningModule):
    """A LightningModule that knows nothing of segrobust, with other names and tuples as batches."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"model": tiny_network()})

    def forward(self, x: Tensor) -> Tensor:
        return self.parts["model"](x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y, ignore_index=-1)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("loss", self.training_step(batch, batch_idx))

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(dataset: Dataset[Any], *, shuffle: bool = False, batch_size: int = 2) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle)


def make_trainer(root: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(hasattr(callback, "best_model_path") for callback in callbacks),
        "log_every_n_steps": 1,
    }
    return Trainer(default_root_dir=root, callbacks=list(callbacks), **(defaults | settings))
