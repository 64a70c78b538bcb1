"""Ends a training whose loss is not finite, and saves the batch."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from safetensors.torch import save_file
from torch import Tensor

_SHOWN = 16


def require_finite(
    loss: Tensor, batch: dict[str, Tensor], trainer: Trainer, folder: Path, attacked: Tensor | None = None
) -> None:
    """Saves the batch and raises if a loss is NaN or infinite.

    The file is safetensors with `image`, `mask`, `sample_id` and, if given, `attacked`.

    Args:
        loss: `()`.
        batch: from the loader.
        trainer: of the training.
        folder: of the file.
        attacked: `(B, C, H, W)`, the images that the network was trained on.

    Raises:
        FloatingPointError: the loss is not finite; the message names the samples and the file.
    """
    if torch.isfinite(loss).item():
        return
    tensors = {name: batch[name] for name in ("image", "mask", "sample_id")}
    if attacked is not None:
        tensors["attacked"] = attacked
    epoch, step = trainer.current_epoch, trainer.global_step
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"not-finite-epoch={epoch:03d}-step={step:06d}-rank={trainer.global_rank}.safetensors"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    ids = batch["sample_id"].tolist()
    shown = ", ".join(map(str, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
    raise FloatingPointError(
        f"the training loss is {loss.item()} in epoch {epoch}, step {step}; samples {shown}; the batch is "
        f"saved in {path}. Check these images and masks; if they are correct, lower the learning rate, clip gradients "
        "(gradient_clip_val), or train in float32"
    )
