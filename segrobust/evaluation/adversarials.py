"""Adversarial images on disk, for panels and for judgement by other networks."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from segrobust.evaluation.plan import Radius, Unit
from segrobust.evaluation.strict_json import replace_file


@dataclass(frozen=True)
class AdversarialStore:
    """Keeps adversarial images as `adversarials/<digest>/<eps or "min">/<sample id>.safetensors`, entry `adv`.

    They are `(C, H, W)` float32 and not rounded to 8 bits: a PNG would undo a small perturbation.

    Args:
        directory: the run directory.
        sample_ids: samples whose images are kept; None for all.
    """

    directory: str | os.PathLike[str]
    sample_ids: Collection[int] | None = None

    def path(self, digest: str, eps: Radius, sample_id: int) -> Path:
        """Where an image lies."""
        return Path(self.directory) / "adversarials" / digest / str(eps) / f"{sample_id:06d}.safetensors"

    def lacks(self, unit: Unit, sample_id: int) -> bool:
        """Whether an image should be here and is not."""
        if self.sample_ids is not None and sample_id not in self.sample_ids:
            return False
        return not self.path(unit.job.digest, unit.eps, sample_id).exists()

    def keep(self, unit: Unit, sample_id: int, adv: Tensor) -> None:
        """Writes one image `(C, H, W)`, in one step, unless it is not wanted or here already.

        Raises:
            OSError: the directory cannot be written.
        """
        if self.lacks(unit, sample_id):
            path = self.path(unit.job.digest, unit.eps, sample_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, save({"adv": adv.detach().to("cpu", torch.float32).contiguous()}))

    def load(self, digest: str, eps: Radius, sample_id: int) -> Tensor:
        """An image `(C, H, W)` float32.

        Raises:
            FileNotFoundError: it was not kept.
        """
        return load_file(self.path(digest, eps, sample_id))["adv"]
