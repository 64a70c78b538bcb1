"""Ends a training whose loss is not finite, and saves the batch."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

_SHOWN = 16


@dataclass(frozen=True, kw_only=True)
class TrainingPlace:
    """The current position of a training.

    Attributes:
        folder: of its files.
        epoch: from 0.
        step: optimiser steps taken.
        rank: of the process.
    """

    folder: Path
    epoch: int
    step: int
    rank: int


def require_finite(
    loss: Tensor, batch: dict[str, Tensor], place: TrainingPlace, attacked: Tensor | None = None
) -> None:
    """Saves the batch and raises if a loss is NaN or infinite.

    The file is safetensors with `image`, `mask`, `sample_id` and, if given, `attacked`.

    Args:
        loss: `()`.
        batch: from the loader.
        place: current position of the training.
        attacked: `(B, C, H, W)`, the images that the network was trained on.

    Raises:
        FloatingPointError: the loss is not finite; the message names the samples and the file.
    """
    if torch.isfinite(loss).item():
        return
    tensors = {name: batch[name] for name in ("image", "mask", "sample_id")}
    if attacked is not None:
        tensors["attacked"] = attacked
    place.folder.mkdir(parents=True, exist_ok=True)
    where = f"epoch={place.epoch:03d}-step={place.step:06d}-rank={place.rank}"
    path = place.folder / f"not-finite-{where}.safetensors"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    ids = batch["sample_id"].tolist()
    shown = ", ".join(map(str, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
    raise FloatingPointError(
        f"the training loss is {loss.item()} in epoch {place.epoch}, step {place.step}; samples {shown}; the batch is "
        f"saved in {path}. Check these images and masks; if they are correct, lower the learning rate, clip gradients "
        "(gradient_clip_val), or train in float32"
    )
