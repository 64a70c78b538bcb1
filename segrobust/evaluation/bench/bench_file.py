"""The file of a bench: what is known of one network in one norm, image by image."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

from segrobust.attacks import Untargeted
from segrobust.evaluation.bench.witness import ORIGIN_READERS, Origin
from segrobust.evaluation.plan import Radius
from segrobust.evaluation.run.consistency import read_criterion
from segrobust.evaluation.run.manifest import LEAST_RADIUS
from segrobust.evaluation.run.strict_json import read_document, write_json
from segrobust.functional.norms import NormName
from segrobust.metrics.norm_statistics import ROUNDING
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import (
    MOST_COUNTED,
    list_of,
    mapping_of,
    number,
    one_of,
    optional,
    read_fields,
    text,
    token,
    whole,
)
from segrobust.untrusted.file_names import check_file_name
from segrobust.untrusted.printable import shortened

BENCH_SCHEMA: Final = 1
_MOST_IMAGES: Final = 2**16


@dataclass(frozen=True, kw_only=True)
class BenchImage:
    """One image of a bench.

    Attributes:
        sample_id: position in the data set.
        name: its name there.
        image: digest of the image; see `witness.digest_of`.
        label: digest of its label.
        sample: digest of both, as in the records of a run; see `LoadedSample.digest`.
        num_valid: valid pixels.
    """

    sample_id: int
    name: str
    image: str
    label: str
    sample: str
    num_valid: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One witness, and what it was measured to do.

    Attributes:
        witness: digest of its file.
        sample_id: of its image.
        attack: name of the attack that found it; "clean" for the image without attack.
        attack_digest: of the attack's identity.
        eps: radius of the call, "min" for a minimal norm, None for the clean image.
        num_forwards: forward passes spent on the image.
        num_backwards: backward passes.
        seed: of the run.
        norm: of the perturbation, image units.
        slack: broken pixels beyond those that success needs; negative if the image is not broken.
        close: valid pixels whose decision may differ on another machine; see `rejudge.TOLERANCE`.
        tp: true positives of every class.
        fp: false positives.
        fn: false negatives.
    """

    witness: str
    sample_id: int
    attack: str
    attack_digest: str
    eps: Radius | None
    num_forwards: int
    num_backwards: int
    seed: int
    norm: float
    slack: int
    close: int
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    fn: tuple[int, ...]

    @property
    def correct(self) -> int:
        """Valid pixels that are classified correctly."""
        return sum(self.tp)

    @property
    def breaks(self) -> bool:
        """Whether it may stand for a minimal norm: broken even if every close decision falls the other way."""
        return self.slack >= self.close

    def within(self, eps: float) -> bool:
        """Whether the perturbation lies in the ball of radius `eps`, up to the rounding of float32 images."""
        return self.norm <= eps + ROUNDING


@dataclass(frozen=True, kw_only=True)
class RadiusCell:
    """The worst that is known at one radius.

    Attributes:
        eps: radius, image units.
        accuracy: lowest pixel accuracy over all images, aAcc, in [0, 1].
        miou: lowest mIoU over the data set, mIoU^D, in [0, 1].
        worst_accuracy: per image the witness that leaves the fewest correct pixels.
        worst_miou: per image the witness of the choice with the lowest mIoU^D.
    """

    eps: float
    accuracy: float
    miou: float
    worst_accuracy: tuple[str, ...]
    worst_miou: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BenchFile:
    """All cells of one network and norm. The images of a file never change, so that its numbers stay comparable.

    Attributes:
        network: its name, which is the first part of the file's name.
        weights: digest of its weights.
        preprocessing: settings of the wrappers around it that are not weights.
        data: a line about the data set.
        norm_name: the norm.
        criterion: when an image is broken: `Untargeted(apsr=...)`.
        ignore_index: label of void pixels.
        num_classes: classes of the network.
        images: in the order of cells.
        attacks: identity of every attack that found a witness, by digest.
        entries: the witnesses that cells name, and no other.
        norms: per image the witness of the smallest norm; None if no attack broke it.
        radii: in ascending order of `eps`.
        schema: version of the format.
    """

    network: str
    weights: str
    preprocessing: str
    data: str
    norm_name: NormName
    criterion: str
    ignore_index: int
    num_classes: int
    images: tuple[BenchImage, ...]
    attacks: Mapping[str, str]
    entries: tuple[Entry, ...]
    norms: tuple[str | None, ...]
    radii: tuple[RadiusCell, ...]
    schema: int = BENCH_SCHEMA

    @cached_property
    def by_witness(self) -> dict[str, Entry]:
        """Entries by digest of the witness."""
        return {entry.witness: entry for entry in self.entries}

    @cached_property
    def image_of(self) -> dict[int, BenchImage]:
        """Images by sample id."""
        return {image.sample_id: image for image in self.images}

    @cached_property
    def entries_of(self) -> dict[int, list[Entry]]:
        """Entries by sample id, of every image."""
        found: dict[int, list[Entry]] = {image.sample_id: [] for image in self.images}
        for entry in self.entries:
            found[entry.sample_id].append(entry)
        return found

    @cached_property
    def envelope(self) -> dict[int, float]:
        """The smallest known norm of each image, by sample id; inf where no attack broke it."""
        return {
            image.sample_id: float("inf") if witness is None else self.by_witness[witness].norm
            for image, witness in zip(self.images, self.norms, strict=True)
        }

    @property
    def untargeted(self) -> Untargeted:
        """The criterion.

        Raises:
            ValueError: another kind of criterion.
        """
        found = read_criterion(self.criterion)
        if not isinstance(found, Untargeted):
            raise ValueError(f"a bench is of Untargeted(apsr=...), got {shortened(self.criterion)}")
        return found

    @property
    def named(self) -> set[str]:
        """The witnesses that cells name."""
        lists = (self.norms, *(cells for r in self.radii for cells in (r.worst_accuracy, r.worst_miou)))
        return {witness for witnesses in lists for witness in witnesses if witness is not None}

    def origin(self, entry: Entry) -> Origin:
        """What the witness of an entry must say of itself."""
        image = self.image_of[entry.sample_id]
        return Origin(
            image=image.image,
            label=image.label,
            weights=self.weights,
            norm_name=self.norm_name,
            attack=entry.attack,
            attack_digest=entry.attack_digest,
            eps=entry.eps,
            num_forwards=entry.num_forwards,
            num_backwards=entry.num_backwards,
            seed=entry.seed,
        )

    def path(self, folder: Path) -> Path:
        """Where the file lies."""
        return folder / f"{self.network}_{self.norm_name}.json"

    def write(self, folder: Path) -> None:
        """Writes the file in one step.

        Raises:
            OSError: the folder cannot be written.
        """
        write_json(self.path(folder), asdict(self), root=folder)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The inverse of `write`; whether its fields agree with each other is asked by `read_bench`.

        Raises:
            DataFault: no strict JSON of this format, or a link.
            FileNotFoundError: it is missing.
        """
        value = read_document(path, "a bench file")
        try:
            return cls(**read_fields(value, _READERS))
        except ValueError as error:
            raise DataFault(f"{path} is no bench file of schema {BENCH_SCHEMA}: {error}") from error


def bench_files(folder: Path) -> list[Path]:
    """The files of a bench, in alphabetical order.

    Raises:
        ValueError: the folder holds none.
    """
    found = sorted(folder.glob("*.json"))
    if not found:
        raise ValueError(f"{folder} holds no bench: there is no file NETWORK_NORM.json; name the folder of a bench")
    return found


def _network_name(value: object) -> str:
    check_file_name(str(value), "the name of a network")
    return token(value)


_COUNTS: Final = list_of(whole(), least=1, most=2**16)
_IMAGE: Final = {
    "sample_id": whole(),
    "name": text(),
    "image": token,
    "label": token,
    "sample": token,
    "num_valid": whole(1),
}
_ENTRY: Final = {
    "witness": token,
    "sample_id": whole(),
    **{
        name: ORIGIN_READERS[name]
        for name in ("attack", "attack_digest", "eps", "num_forwards", "num_backwards", "seed")
    },
    "norm": number(0, MOST_COUNTED),
    "slack": whole(-MOST_COUNTED),
    "close": whole(),
    **dict.fromkeys(("tp", "fp", "fn"), _COUNTS),
}
_RADIUS: Final = {
    "eps": number(LEAST_RADIUS, MOST_COUNTED),
    **dict.fromkeys(("accuracy", "miou"), number(0, 1)),
    **dict.fromkeys(("worst_accuracy", "worst_miou"), list_of(token, least=1, most=_MOST_IMAGES)),
}


def _objects(kind: Any, readers: Mapping[str, Any], *, least: int = 0) -> Any:
    """A reader of a list of objects of a class."""
    return list_of(lambda each: kind(**read_fields(each, readers)), least=least, most=64 * _MOST_IMAGES)


_READERS: Final = {
    "network": _network_name,
    "weights": token,
    "preprocessing": text(),
    "data": text(),
    "norm_name": one_of("linf", "l2", "l1"),
    "criterion": text(),
    "ignore_index": whole(-(2**31), 2**31),
    "num_classes": whole(1, 2**16),
    "images": _objects(BenchImage, _IMAGE, least=1),
    "attacks": mapping_of(text()),
    "entries": _objects(Entry, _ENTRY),
    "norms": list_of(optional(token), least=1, most=_MOST_IMAGES),
    "radii": _objects(RadiusCell, _RADIUS),
    "schema": whole(BENCH_SCHEMA, BENCH_SCHEMA),
}
