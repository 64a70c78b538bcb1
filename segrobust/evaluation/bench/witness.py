"""A witness: one perturbation in a small file, with what it is a perturbation of and how it was found."""

import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import torch
from torch import Tensor

from segrobust.evaluation.plan import Radius
from segrobust.evaluation.run.records import read_radius
from segrobust.evaluation.run.strict_json import parse_line, to_line
from segrobust.functional.norms import NormName
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import list_of, number, one_of, read_fields, token, whole
from segrobust.untrusted.regular_files import read_limited, replace_file

WITNESS_SCHEMA: Final = 1
_LONGEST_HEADER: Final = 2**12
_LARGEST_SIDE: Final = 2**16
LEAST_STEP: Final = 1e-12
LEVELS: Final = {"int8": 127, "int16": 32767}
"""Types of the stored integers, and the largest of each; the smallest is its negative."""

Levels = Literal["int8", "int16"]


class WitnessError(DataFault):
    """A witness that cannot be read, or is not of the image that it is said to be of."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a witness is a perturbation of, and how it was found.

    Attributes:
        image: digest of the clean image; see `digest_of`.
        label: digest of its label.
        weights: digest of the network's weights.
        norm_name: norm of the attack.
        attack: name of the attack in its run; "clean" for the clean image.
        attack_digest: digest of its identity.
        eps: radius of the call, "min" for a minimal norm, None for the clean image.
        num_forwards: forward passes that the attack spent on the image.
        num_backwards: backward passes.
        seed: of the run.
    """

    image: str
    label: str
    weights: str
    norm_name: NormName
    attack: str
    attack_digest: str
    eps: Radius | None
    num_forwards: int
    num_backwards: int
    seed: int


ORIGIN_READERS: Final = {
    "image": token,
    "label": token,
    "weights": token,
    "norm_name": one_of("linf", "l2", "l1"),
    "attack": token,
    "attack_digest": token,
    "eps": read_radius,
    "num_forwards": whole(),
    "num_backwards": whole(),
    "seed": whole(0, 2**31),
}
_HEADER: Final = {
    **ORIGIN_READERS,
    "schema": whole(WITNESS_SCHEMA, WITNESS_SCHEMA),
    "shape": list_of(whole(1, _LARGEST_SIDE), least=3, most=3),
    "levels": one_of(*LEVELS),
    "step": number(LEAST_STEP, 1),
}


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A perturbation in whole steps: `step * levels`.

    A float32 perturbation takes 12 bytes per pixel. Most values of l_inf attacks are the largest one with either sign,
    so that integers of few steps lose little and are compressed well. The norm and the success of a cell are those of
    the stored perturbation, not those of the attack's.

    Attributes:
        origin: what it is a perturbation of.
        step: image units.
        levels: `(C, H, W)` int8 or int16.
    """

    origin: Origin
    step: float
    levels: Tensor

    def adversarial(self, image: Tensor) -> Tensor:
        """The perturbed image `(C, H, W)` float32; every operation is exact or rounded once, so equal on all machines.

        Args:
            image: clean, `(C, H, W)` in [0, 1].

        Raises:
            WitnessError: it is of another size, or the perturbed image leaves [0, 1].
        """
        if image.shape != self.levels.shape:
            raise WitnessError(f"it is of size {tuple(self.levels.shape)}, the image of {tuple(image.shape)}")
        moved = image.double() + self.levels.double() * self.step
        if moved.min() < 0 or moved.max() > 1:
            raise WitnessError(
                f"the perturbed image has values from {moved.min():.8g} to {moved.max():.8g}, outside [0, 1]"
            )
        return moved.float()

    def to_bytes(self) -> bytes:
        """The content of its file: a line of strict JSON, and the compressed integers."""
        kind = str(self.levels.dtype).removeprefix("torch.")
        header = {"schema": WITNESS_SCHEMA, **asdict(self.origin), "shape": list(self.levels.shape), "levels": kind}
        integers = self.levels.numpy()
        packed = zlib.compress(integers.astype(integers.dtype.newbyteorder("<")).tobytes(), 9)
        return to_line({**header, "step": self.step}).encode() + b"\n" + packed

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The inverse of `to_bytes`; no more memory is taken than the stated size needs.

        Raises:
            WitnessError: other content; the message says what is wrong.
        """
        end = content.find(b"\n", 0, _LONGEST_HEADER)
        if end < 0:
            raise WitnessError(f"it has no first line of less than {_LONGEST_HEADER} bytes")
        try:
            header = read_fields(parse_line(content[:end], "its first line"), _HEADER)
        except ValueError as error:
            raise WitnessError(str(error)) from error
        shape, name = header["shape"], header["levels"]
        kind = np.dtype(name).newbyteorder("<")
        integers = np.frombuffer(unpacked(content[end + 1 :], math.prod(shape) * kind.itemsize), kind)
        levels = torch.from_numpy(integers.astype(name)).reshape(shape)
        if int(levels.long().abs().max()) > LEVELS[name]:
            raise WitnessError(f"it holds an integer below {-LEVELS[name]}")
        origin = Origin(**{field: header[field] for field in ORIGIN_READERS})
        return cls(origin=origin, step=header["step"], levels=levels)


def unpacked(packed: bytes, size: int) -> bytes:
    """The compressed bytes, of which there must be `size`; no more are unpacked.

    Raises:
        WitnessError: there are more or fewer, or they are damaged.
    """
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(packed, size + 1)
    except zlib.error as error:
        raise WitnessError(f"its values cannot be unpacked: {error}") from error
    if len(content) != size or not stream.eof or stream.unused_data:
        raise WitnessError(f"its values do not fill the stated size of {size} bytes, or more follows them")
    return content


def quantized(
    image: Tensor,
    adv: Tensor,
    origin: Origin,
    *,
    levels: Levels = "int8",
    limit: float | None = None,
    stretch: float = 1.0,
) -> Witness:
    """The witness nearest to an adversarial image, inside [0, 1].

    Args:
        image: clean, `(C, H, W)`.
        adv: adversarial, `(C, H, W)`.
        origin: of the witness.
        levels: type of the integers.
        limit: largest absolute value of the perturbation; None for that of `adv`.
        stretch: factor on the perturbation, which makes up for rounding where an image is barely broken.
    """
    clean, most = image.double(), LEVELS[levels]
    delta = (adv.double() - clean) * stretch
    top = float(delta.abs().max())
    step = min(top, limit if limit is not None else top) / most
    if step < LEAST_STEP:
        return Witness(origin=origin, step=1.0, levels=torch.zeros(image.shape, dtype=getattr(torch, levels)))
    steps = (delta / step).round().clamp(-most, most)
    steps = steps.clamp(min=-(clean / step).floor(), max=((1 - clean) / step).floor())
    moved = clean + steps * step
    steps = torch.where((moved < 0) | (moved > 1), steps - steps.sign(), steps)  # a quotient rounded up
    return Witness(origin=origin, step=step, levels=steps.to(getattr(torch, levels)))


def witness_path(folder: Path, digest: str) -> Path:
    """Where a witness of a bench lies."""
    return folder / "witnesses" / f"{digest}.witness"


def write_witness(witness: Witness, folder: Path) -> str:
    """Writes a witness in one step, under the digest of its content.

    Returns:
        The digest.
    """
    content = witness.to_bytes()
    digest = content_digest(content)
    replace_file(witness_path(folder, digest), content, root=folder)
    return digest


def read_witness(folder: Path, digest: str, shape: Sequence[int]) -> Witness:
    """Reads a witness, of which the name is the digest.

    Args:
        folder: of the bench; no link below it is followed.
        digest: of the content.
        shape: of its image, which limits the size of the file.

    Raises:
        FileNotFoundError: it is not there.
        WitnessError: a link, another content than the digest says, or a damaged one.
    """
    largest = _LONGEST_HEADER + 4 * math.prod(shape)
    try:
        content = read_limited(witness_path(folder, digest), largest, "a witness of this image", root=folder)
    except DataFault as error:
        raise WitnessError(str(error)) from error
    if content_digest(content) != digest:
        raise WitnessError(f"its content has the digest {content_digest(content)}: the file is cut, or another one")
    return Witness.from_bytes(content)


def content_digest(content: bytes) -> str:
    """32 hex digits of the SHA-256 of the content of a file."""
    return hashlib.sha256(content).hexdigest()[:32]


def digest_of(tensor: Tensor) -> str:
    """32 hex digits of the SHA-256 of a tensor: of dtype, shape and all values."""
    plain = tensor.detach().cpu().contiguous()
    head = json.dumps([str(plain.dtype), list(plain.shape)]).encode()
    return hashlib.sha256(head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:32]
