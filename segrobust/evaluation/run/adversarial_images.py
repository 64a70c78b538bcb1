"""Adversarial images on disk, for panels and for the evaluation of other networks."""

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from segrobust.evaluation.plan import AttackCall, Radius
from segrobust.evaluation.run.records import read_radius
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import token
from segrobust.untrusted.printable import visible
from segrobust.untrusted.regular_files import read_limited, replace_file

_LARGEST: Final = 2**30
"""Bytes; an image of 89 million pixels, the largest that is read, is about as large."""

_HEADER: Final = 2**12
"""Bytes of a file beside the values; one entry takes about 80."""

_DAMAGED: Final = (SafetensorError, DataFault, LookupError, TypeError, RuntimeError)
"""What reading gives on files that are cut or changed; a type of numbers that the reader lacks is a `LookupError`."""

_SHOWN: Final = 200


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
        """Whether the images of a call are stored, at all its radii."""
        return all(os.path.lexists(self.path(call.job.digest, eps, sample_id)) for eps in call.attacked)

    def lacks(self, call: AttackCall, sample_id: int) -> bool:
        """Whether an image of a call should be stored and is not."""
        if self.sample_ids is not None and sample_id not in self.sample_ids:
            return False
        return not self.holds(call, sample_id)

    def keep(self, call: AttackCall, sample_id: int, adv: Sequence[Tensor]) -> None:
        """Writes the images `(C, H, W)` of a call, each in one step, unless not requested or already stored.

        Args:
            call: the call.
            sample_id: position in the data set.
            adv: one image for each of `call.attacked`.

        Raises:
            OSError: the directory cannot be written.
        """
        if self.lacks(call, sample_id):
            for eps, image in zip(call.attacked, adv, strict=True):
                path = self.path(call.job.digest, eps, sample_id)
                if not os.path.lexists(path):
                    content = save({"adv": image.detach().to("cpu", torch.float32).contiguous()})
                    replace_file(path, content, root=Path(self.directory))

    def load(self, digest: str, eps: Radius, sample_id: int, shape: Sequence[int] | None = None) -> Tensor:
        """An image `(C, H, W)` float32.

        Args:
            digest: of the attack.
            eps: radius, or "min".
            sample_id: position in the data set.
            shape: of the clean image, which the file must have; one that is larger is refused before it is read. None
                for any shape.

        Raises:
            FileNotFoundError: it was not stored.
            StoredImageError: the file is damaged or has another format.
        """
        path = self.path(digest, eps, sample_id)
        adv = load_adversarial(path, Path(self.directory), shape)
        if shape is not None and adv.shape != torch.Size(shape):
            raise StoredImageError(
                f"{path} is of size {tuple(adv.shape)}, image {sample_id} of {tuple(shape)}; give the transforms that "
                "the run's data set had"
            )
        return adv

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
        name, digest = path.parent.name, path.parent.parent.name
        try:
            radius = read_radius("min" if name == "min" else float(name))
            if radius is None or not path.stem.isascii() or not path.stem.isdecimal():
                raise ValueError("no number of a sample")
            found = cls(int(path.stem), token(digest), radius, path)
        except ValueError as error:
            raise DataFault(f"{path} is no adversarial image of a run; move it out of there", kind="name") from error
        if AdversarialStore(path.parents[3]).path(*found[1:3], found.sample_id) != path:
            raise DataFault(
                f"{path} has another name than an adversarial image of a run; move it out of there", kind="name"
            )
        return found


def load_adversarial(path: Path, root: Path, shape: Sequence[int] | None = None) -> Tensor:
    """An image `(C, H, W)` float32, finite, from the file that `AdversarialStore.keep` wrote.

    Args:
        path: of the file.
        root: the run directory, from which on no link is followed.
        shape: see `AdversarialStore.load`.

    Raises:
        FileNotFoundError: there is no such file.
        StoredImageError: the file is damaged or has another format; the message names it.
    """
    fix = "delete it and run the evaluation again, which writes it again"
    largest = _LARGEST if shape is None else _HEADER + 4 * math.prod(shape)
    try:
        entries = load(read_limited(path, largest, "an image of this size", root=root))
    except _DAMAGED as error:
        raise StoredImageError(f"{path} is damaged ({visible(str(error))}); {fix}") from error
    adv = entries.get("adv")
    if len(entries) != 1 or adv is None or adv.dtype != torch.float32 or adv.ndim != 3:
        found = ", ".join(f"{name} {value.dtype} {tuple(value.shape)}" for name, value in entries.items()) or "nothing"
        raise StoredImageError(
            f"{path} must hold one image, adv torch.float32 (C, H, W), and holds {visible(found)[:_SHOWN]}; {fix}"
        )
    if not adv.isfinite().all():
        raise StoredImageError(f"{path} is damaged (it holds values that are not finite); {fix}")
    return adv
