"""Adversarial images on disk, for panels and for the evaluation of other networks."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from segrobust.evaluation.plan import AttackCall, Radius
from segrobust.evaluation.run.strict_json import replace_file


class StoredImageError(ValueError):
    """A file of an adversarial image that cannot be used; the message names it."""


@dataclass(frozen=True)
class AdversarialStore:
    """Stores adversarial images as `adversarials/<digest>/<eps or "min">/<sample id>.safetensors`, entry `adv`.

    They are `(C, H, W)` float32: rounding to 8 bits, as in a PNG, would remove small perturbations.

    Args:
        directory: the run directory.
        sample_ids: samples whose images are stored; None for all.
    """

    directory: str | os.PathLike[str]
    sample_ids: Collection[int] | None = None

    def path(self, digest: str, eps: Radius, sample_id: int) -> Path:
        """The file of an image."""
        return Path(self.directory) / "adversarials" / digest / str(eps) / f"{sample_id:06d}.safetensors"

    def holds(self, call: AttackCall, sample_id: int) -> bool:
        """Whether an image is stored."""
        return self.path(call.job.digest, call.eps, sample_id).exists()

    def lacks(self, call: AttackCall, sample_id: int) -> bool:
        """Whether an image should be stored and is not."""
        if self.sample_ids is not None and sample_id not in self.sample_ids:
            return False
        return not self.holds(call, sample_id)

    def keep(self, call: AttackCall, sample_id: int, adv: Tensor) -> None:
        """Writes one image `(C, H, W)` in one step, unless it is not requested or already stored.

        Raises:
            OSError: the directory cannot be written.
        """
        if self.lacks(call, sample_id):
            path = self.path(call.job.digest, call.eps, sample_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, save({"adv": adv.detach().to("cpu", torch.float32).contiguous()}))

    def load(self, digest: str, eps: Radius, sample_id: int) -> Tensor:
        """An image `(C, H, W)` float32.

        Raises:
            FileNotFoundError: it was not stored.
            StoredImageError: the file is damaged or has another format.
        """
        return load_adversarial(self.path(digest, eps, sample_id))

    def stored(self) -> "tuple[StoredAdversarial, ...]":
        """All stored images, by sample.

        Raises:
            ValueError: a file or folder whose name this class does not give.
        """
        files = sorted((Path(self.directory) / "adversarials").glob("*/*/*.safetensors"))
        return tuple(sorted(map(StoredAdversarial.of, files), key=lambda image: image.sample_id))


class StoredAdversarial(NamedTuple):
    """One image on disk: position in the data set, digest of the attack, radius or "min", and the file."""

    sample_id: int
    digest: str
    eps: Radius
    path: Path

    @classmethod
    def of(cls, path: Path) -> "StoredAdversarial":
        """The image of a file, by the file's name.

        Raises:
            ValueError: a name that `AdversarialStore` does not give.
        """
        radius, digest = path.parent.name, path.parent.parent.name
        try:
            return cls(int(path.stem), digest, "min" if radius == "min" else float(radius), path)
        except ValueError as error:
            raise ValueError(f"{path} is no adversarial image of a run; move it out of there") from error


def load_adversarial(path: Path) -> Tensor:
    """An image `(C, H, W)` float32, finite, from the file that `AdversarialStore.keep` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        StoredImageError: the file is damaged or has another format; the message names it.
    """
    fix = "delete it and run the evaluation again, which writes it again"
    try:
        entries = load_file(path)
    except SafetensorError as error:
        raise StoredImageError(f"{path} is damaged ({error}); {fix}") from error
    adv = entries.get("adv")
    if len(entries) != 1 or adv is None or adv.dtype != torch.float32 or adv.ndim != 3:
        found = ", ".join(f"{name} {value.dtype} {tuple(value.shape)}" for name, value in entries.items()) or "nothing"
        raise StoredImageError(f"{path} must hold one image, adv torch.float32 (C, H, W), and holds {found}; {fix}")
    if not adv.isfinite().all():
        raise StoredImageError(f"{path} is damaged (it holds values that are not finite); {fix}")
    return adv
