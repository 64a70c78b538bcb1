"""What a run directory holds results of. Another network, data set or setting is refused."""

import hashlib
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal, Self

from torch import nn

from segrobust.evaluation.dataset import (
    SampleSource,
    describe_data,
    fingerprint_of,
    first_readable,
    label_space_of,
    value_range_of,
)
from segrobust.evaluation.forward import precision_of
from segrobust.evaluation.plan import Plan
from segrobust.evaluation.presets import preset_of
from segrobust.evaluation.run.strict_json import read_document, to_line, write_json
from segrobust.functional.norms import NormName
from segrobust.label_space import LabelSpace
from segrobust.networks import FullResolution, Normalized, SlidingWindow, weights_digest
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import (
    MOST_COUNTED,
    boolean,
    list_of,
    number,
    one_of,
    optional,
    read_fields,
    text,
    token,
    whole,
)
from segrobust.untrusted.file_names import file_key
from segrobust.untrusted.printable import shortened
from segrobust.value_range import ValueRange

LEAST_RADIUS: Final = 1e-12
"""Of a ball that is written to a file; a step of float32 at 1 is 1.2e-7."""

MOST_SAMPLES: Final = 2**18
"""Of a run; what is missing is counted sample by sample, several times."""

_LONGEST_DESCRIPTION: Final = 2**12

MANIFEST_SCHEMA: Final = 2
"""Version of the format."""

_WRAPPERS: Final = (Normalized, FullResolution, SlidingWindow)
"""Modules around a network whose settings change what it predicts."""

_LOCKED = {
    "weights": "weights of the network",
    "preprocessing": "normalisation and resizing around the network",
    "ignore_index": "label of void pixels",
    "criterion": "criterion of success",
    "seed": "seed",
    "precision": "precision",
}


@dataclass(frozen=True, kw_only=True)
class AttackEntry:
    """An attack in a run directory, and its radii."""

    name: str
    digest: str
    attack: str
    kind: Literal["minimal-norm", "fixed-budget"]
    norm_name: NormName
    eps: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Identifies what the records of a run directory are results of.

    Weights, preprocessing, label space, ignore index, criterion, seed and precision are locked, because records with
    other values must not be mixed. Images and masks are compared by the digests of the records. Later commands may add
    attacks, and `samples` are those of the last one. Batch size, device and number of processes may change: see
    provenance.

    Attributes:
        weights: digest of the network's weights.
        preprocessing: settings of the wrappers around the network that are not weights.
        data: fingerprint of the data set, for reports; see `fingerprint_of`.
        image_size: `HxW` of the first sample.
        label_space: classes; None if the data set has no names.
        ignore_index: label of void pixels.
        criterion: identity of the criterion, and its targets; see `Plan.goal`.
        seed: seed of the run.
        precision: dtype of images and logits.
        samples: positions of the samples to evaluate.
        attacks: all attacks so far, with all their radii so far.
        planned: the attacks and radii of the last command, which decide when a run is finished.
        asr_only: whether the last command computes success rates only; see `Plan`.
        value_range: what the images' values 0 and 1 are in the sensor's units; None if the data set does not say.
        data_description: a line of text about the data.
        network_description: a line of text about the network.
        schema: version of this format.
    """

    weights: str
    preprocessing: str
    data: str
    image_size: str
    label_space: LabelSpace | None
    ignore_index: int
    criterion: str
    seed: int
    precision: str
    samples: tuple[int, ...]
    attacks: tuple[AttackEntry, ...]
    planned: tuple[AttackEntry, ...]
    asr_only: bool
    data_description: str
    network_description: str
    value_range: ValueRange | None = None
    schema: int = MANIFEST_SCHEMA

    @classmethod
    def of(
        cls,
        network: nn.Module,
        dataset: SampleSource,
        plan: Plan,
        *,
        samples: tuple[int, ...],
        ignore_index: int,
        seed: int,
        weights: str | None = None,
    ) -> Self:
        """The manifest of an evaluation. Reads the first image.

        Args:
            network: what is attacked.
            dataset: the samples.
            plan: attacks and radii.
            samples: positions of the samples to evaluate.
            ignore_index: label of void pixels.
            seed: of random starts.
            weights: digest of the weights, if it is known already.

        Raises:
            ValueError: more samples than a run may have.
        """
        if len(samples) > MOST_SAMPLES:
            raise ValueError(f"a run has at most {MOST_SAMPLES} samples, got {len(samples)}; choose some by max_images")
        entries = attack_entries(plan)
        return cls(
            weights=weights or weights_digest(network),
            preprocessing=preprocessing_of(network),
            data=fingerprint_of(dataset),
            image_size="x".join(map(str, first_readable(dataset, range(len(dataset))).mask.shape)),
            label_space=label_space_of(dataset),
            ignore_index=ignore_index,
            criterion=plan.goal,
            seed=seed,
            precision=str(precision_of(network)).removeprefix("torch."),
            samples=samples,
            attacks=entries,
            planned=entries,
            asr_only=plan.asr_only,
            data_description=describe_data(dataset)[:_LONGEST_DESCRIPTION],
            network_description=describe_network(network)[:_LONGEST_DESCRIPTION],
            value_range=value_range_of(dataset),
        )

    @property
    def purpose(self) -> str:
        """Digest of what processes that work together agree on: what is locked, samples, attacks and radii."""
        content = asdict(self)
        shared = [content[name] for name in (*_LOCKED, "samples", "planned", "asr_only")]
        return hashlib.sha256(to_line(shared).encode()).hexdigest()

    def extended(self, newer: Self, directory: Path) -> Self:
        """This manifest with the samples and the attacks of a newer command on the same directory.

        Args:
            newer: of the newer command.
            directory: the run directory, for messages.

        Raises:
            ValueError: a locked field differs, or an attack's name is taken by another attack.
        """
        differing = [
            f"  {meaning}: {getattr(self, name)} there, {getattr(newer, name)} now"
            for name, meaning in _LOCKED.items()
            if getattr(self, name) != getattr(newer, name)
        ]
        if differing:
            raise ValueError(
                "\n".join((f"{directory} holds results of something else:", *differing, "use another run directory"))
            )
        if self.label_space is not None and newer.label_space is not None:
            self.label_space.require_equal(newer.label_space, str(directory), "now")
        return replace(newer, attacks=_merge_attacks(self.attacks, newer.attacks, directory))

    @property
    def preset(self) -> str | None:
        """The preset, with its version, that the last command had the attacks of; None for other attacks."""
        return preset_of((entry.digest, entry.eps) for entry in self.planned)

    def write(self, path: Path) -> None:
        """Writes the manifest in one step.

        Raises:
            OSError: the folder cannot be written.
        """
        space = None if self.label_space is None else self.label_space.to_dict()
        limits = None if self.value_range is None else self.value_range.to_list()
        plain = asdict(replace(self, label_space=None, value_range=None))
        write_json(path, {**plain, "label_space": space, "value_range": limits})

    @classmethod
    def read(cls, path: Path) -> Self:
        """The inverse of `write`.

        Raises:
            OSError: the file cannot be opened.
            DataFault: it is no manifest of this schema, or damaged.
        """
        data = read_document(path, "a manifest")
        if not isinstance(data, dict) or data.get("schema") != MANIFEST_SCHEMA:
            raise DataFault(f"{path} is no manifest of schema {MANIFEST_SCHEMA}; use another run directory")
        try:
            return cls(**read_fields({"value_range": None, **data}, _READERS))  # older ones have no range
        except ValueError as error:
            raise DataFault(f"{path} is damaged: {error}; use another run directory") from error


def _read_label_space(value: object) -> LabelSpace:
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    return LabelSpace.from_dict(value)


def _read_samples(value: object) -> tuple[int, ...]:
    found: tuple[int, ...] = list_of(whole(), most=MOST_SAMPLES)(value)
    if len({*found}) != len(found):
        raise ValueError("must name each sample once")
    return found


def _read_size(value: object) -> str:
    if not isinstance(value, str) or re.fullmatch(r"[0-9]{1,9}x[0-9]{1,9}", value) is None:
        raise ValueError(f"must be height x width, got {shortened(value)}")
    return value


def _read_entries(value: object) -> tuple[AttackEntry, ...]:
    found = tuple(AttackEntry(**read_fields(entry, _ENTRY)) for entry in list_of(lambda each: each)(value))
    if any(eps > 1 for entry in found if entry.norm_name == "linf" for eps in entry.eps):
        raise ValueError("must have radii of at most 1 in linf")
    for name in ("digest", "name"):
        if len({getattr(entry, name) for entry in found}) != len(found):
            raise ValueError(f"must give each {name} once")
    return found


_ENTRY: Final = {
    "name": token,
    "digest": token,
    "attack": text(),
    "kind": one_of("minimal-norm", "fixed-budget"),
    "norm_name": one_of("linf", "l2", "l1"),
    "eps": list_of(number(LEAST_RADIUS, MOST_COUNTED)),
}
_READERS: Final = {
    **dict.fromkeys(("weights", "precision"), token),
    **dict.fromkeys(("data", "preprocessing", "criterion"), text()),
    **dict.fromkeys(("data_description", "network_description"), text(_LONGEST_DESCRIPTION)),
    "image_size": _read_size,
    "label_space": optional(_read_label_space),
    "value_range": optional(ValueRange.parse),
    "ignore_index": whole(-(2**31), 2**31),
    "seed": whole(0, 2**31),
    "samples": _read_samples,
    "attacks": _read_entries,
    "planned": _read_entries,
    "asr_only": boolean,
    "schema": whole(MANIFEST_SCHEMA, MANIFEST_SCHEMA),
}


def attack_entries(plan: Plan) -> tuple[AttackEntry, ...]:
    """The attacks of a plan."""
    return tuple(
        AttackEntry(
            name=job.name,
            digest=job.digest,
            attack=job.identity,
            kind="minimal-norm" if job.attack.minimal_norm else "fixed-budget",
            norm_name=job.attack.norm,
            eps=job.radii,
        )
        for job in plan.jobs
    )


def preprocessing_of(network: nn.Module) -> str:
    """Settings of the wrappers of `segrobust.networks` around a network: they are not among its weights."""
    wrappers = [module for module in network.modules() if isinstance(module, _WRAPPERS)]
    return "; ".join(f"{type(module).__name__}({module.extra_repr()})" for module in wrappers) or "none"


def _merge_attacks(
    older: tuple[AttackEntry, ...], newer: tuple[AttackEntry, ...], directory: Path
) -> tuple[AttackEntry, ...]:
    merged = {entry.digest: entry for entry in older}
    names = {file_key(entry.name): entry for entry in older}
    for entry in newer:
        there = names.get(file_key(entry.name), entry)
        if there.digest != entry.digest:
            raise ValueError(
                f"{directory} has another attack with the name {there.name!r}:\n"
                f"  there: {there.attack}\n  now:   {entry.attack}\ngive one of them another name"
            )
        known = merged.get(entry.digest, entry)
        merged[entry.digest] = replace(known, eps=tuple(sorted({*known.eps, *entry.eps})))
    return tuple(merged.values())


def describe_network(network: nn.Module) -> str:
    """Its class, inside wrappers, and its size."""
    inner = network
    while isinstance(inner, _WRAPPERS):
        inner = inner.network
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    return f"{type(inner).__name__}, {millions:.2g} M parameters"
