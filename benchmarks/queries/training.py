"""Trains a small Mask2Former on drawn scenes, by the loss of transformers, and saves it by `save_pretrained`.

python -m benchmarks.queries.training --folder benchmarks/queries/mask2former
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
    SwinConfig,
)

from segrobust.data import SyntheticScenes

SIZE = (64, 96)
BATCH = 8
PEAK_RATE = 1e-3


def make_network(names: tuple[str, ...]) -> Mask2FormerForUniversalSegmentation:
    """A Mask2Former of 0.38 M parameters with random weights."""
    backbone = SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 4],
        window_size=4,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=128,
        encoder_layers=1,
        decoder_layers=3,
        num_attention_heads=2,
        dim_feedforward=128,
        num_queries=12,
        train_num_points=512,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    return Mask2FormerForUniversalSegmentation(config)


def make_processor(num_classes: int) -> Mask2FormerImageProcessor:
    """Records the normalisation beside the network."""
    return Mask2FormerImageProcessor(
        do_resize=False, image_mean=[0.5] * 3, image_std=[0.25] * 3, ignore_index=255, num_labels=num_classes
    )


def split_masks(labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The classes that occur in a mask `(H, W)`, and where each is: `(n,)` and `(n, H, W)` float."""
    present = torch.tensor([k for k in range(num_classes) if bool((labels == k).any())])
    return present, (labels == present[:, None, None]).float()


def main() -> None:
    """Trains and saves; three minutes of a core."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=830)
    parser.add_argument("--scenes", type=int, default=1500)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    scenes = SyntheticScenes(arguments.scenes, size=SIZE)
    samples = [scenes[index] for index in range(arguments.scenes)]
    images = torch.stack([sample["image"] for sample in samples])
    labels = torch.stack([sample["mask"] for sample in samples])
    num_classes = scenes.label_space.num_classes
    network = make_network(scenes.label_space.names).train()
    print(f"{sum(weight.numel() for weight in network.parameters())} parameters", flush=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    start, losses = time.process_time(), []
    for step in range(arguments.steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 100) * (1 + math.cos(math.pi * step / arguments.steps)) / 2
        rows = torch.from_numpy(rng.integers(len(images), size=BATCH))
        flip = bool(rng.integers(2))
        batch, masks = (values[rows].flip(-1) if flip else values[rows] for values in (images, labels))
        present, parts = zip(*(split_masks(mask, num_classes) for mask in masks), strict=True)
        loss = network((batch - 0.5) / 0.25, class_labels=list(present), mask_labels=list(parts)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            spent = (time.process_time() - start) / 60
            print(f"{step + 1} steps, {spent:.1f} minutes of a core, loss {np.mean(losses[-100:]):.3f}", flush=True)
    network.eval().save_pretrained(arguments.folder)
    make_processor(num_classes).save_pretrained(arguments.folder)


if __name__ == "__main__":
    main()
