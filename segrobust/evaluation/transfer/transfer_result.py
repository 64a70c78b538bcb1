"""The result of stored adversarial images on a network: its identity, its records, and discrepancies with the run."""

import hashlib
import math
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final, Literal, Self

from segrobust.evaluation.engine.stored_images import norm_slack
from segrobust.evaluation.run.failures import Fault
from segrobust.evaluation.run.records import ABOVE_EPS, OUTSIDE_BOX, Key, Record
from segrobust.evaluation.run.strict_json import read_document, write_json
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import read_fields, text
from segrobust.untrusted.folders import real_path
from segrobust.untrusted.printable import shortened, visible

JUDGEMENT_SCHEMA: Final = 1
"""Version of the format of `judgement.json`."""

APSR_TOLERANCE: Final = 1e-3
"""Largest difference of shares of pixels, broken or right, between two evaluations of one image on one network.

Floating-point noise depends on device and batch size, and minimal perturbations leave many pixels close to a tie."""

_SHOWN: Final = 20
"""Number of discrepancies and of faults that are printed."""


@dataclass(frozen=True, kw_only=True)
class TargetNetwork:
    """The network on which stored images are evaluated, and the start of the evaluation.

    Attributes:
        name: for tables.
        weights: digest of its weights.
        preprocessing: settings of the wrappers around it that are not weights.
        network_description: a line of text about it.
        time: UTC, ISO 8601.
        schema: version of this format.
    """

    name: str
    weights: str
    preprocessing: str
    network_description: str
    time: str
    schema: int = JUDGEMENT_SCHEMA

    def folder(self, output: Path, run_dir: Path) -> Path:
        """The folder of its records of the images of a run; see `judgements_of`."""
        return judgements_of(output, run_dir) / self.weights[:8]

    def claim(self, folder: Path) -> None:
        """Makes the folder, or continues one of this network; the name may change.

        Raises:
            ValueError: the folder holds the records of another network, or is damaged.
            OSError: it cannot be written.
        """
        path = folder / "judgement.json"
        if path.exists():
            before = TargetNetwork.read(path)
            for field in ("weights", "preprocessing"):
                there, now = getattr(before, field), getattr(self, field)
                if there != now:
                    raise ValueError(
                        f"{folder} holds the records of another network ({field}: {there} there, {now} now); move it "
                        "away to evaluate this one"
                    )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {**asdict(self), "status": "unfinished", "discrepancies": []})

    @classmethod
    def read(cls, path: Path) -> Self:
        """The network of a `judgement.json`.

        Raises:
            ValueError: the file is damaged or of another schema; the message names it.
            OSError: it cannot be read.
        """
        content = read_document(path, "a judgement")
        if not isinstance(content, dict) or content.get("schema") != JUDGEMENT_SCHEMA:
            raise DataFault(f"{path} is no file of schema {JUDGEMENT_SCHEMA}; delete it and evaluate again")
        names = [field.name for field in fields(cls) if field.name != "schema"]
        try:
            return cls(**read_fields({name: content.get(name) for name in names}, dict.fromkeys(names, text())))
        except ValueError as error:
            raise DataFault(f"{path} is damaged: {error}; delete it and evaluate again") from error


def judgements_of(output: Path, run_dir: Path) -> Path:
    """The folder of the judgements of a run, named after the run and its place.

    It never lies in a run: who sent the run could have put judgements there.

    Args:
        output: the folder of all judgements.
        run_dir: the run.

    Raises:
        ValueError: `output` lies in a run directory.
    """
    place = real_path(output)
    for folder in (place, *place.parents):
        if folder == real_path(run_dir) or ((folder / "manifest.json").exists() and (folder / "records").exists()):
            raise ValueError(
                f"judgements must not lie in a run directory, whose sender could have put some there, and {output} "
                f"lies in {folder}; give a folder of yours as output (--output)"
            )
    digest = hashlib.sha256(os.fsencode(real_path(run_dir))).hexdigest()[:8]
    return output / f"{real_path(run_dir).name}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """An image whose record differs from that of the run, or that is not allowed."""

    sample_id: int
    sample_name: str
    attack: str
    eps: float | Literal["min"] | None
    detail: str

    def __str__(self) -> str:
        radius = "" if self.eps is None else f" at {self.eps if self.eps == 'min' else f'{self.eps:.6g}'}"
        return visible(f"image {self.sample_id} ({self.sample_name}), {self.attack}{radius}: {self.detail}")


@dataclass(frozen=True, kw_only=True)
class TransferResult:
    """The result of the stored adversarial images of a run on a network.

    Attributes:
        target: the network.
        folder: of `judgement.json`, `records/` and `faults/`.
        records: one per clean image, per adversarial image and per by-product. Unlike in a run, `norm` is measured
            whether or not the image is broken. `"outside-box"` and `"above-eps"` among the flags mark images that are
            not allowed.
        num_recorded: results of the run that had an adversarial image, stored or not.
        is_own: whether the network is the one that the run attacked, so that its records must agree.
        discrepancies: with the run; empty if there are none.
        faults: errors of images, which therefore lack a record.
        missing: number of records that are still missing, without those that faults explain.
        interrupted: the signal that stopped the work; None if none did.
    """

    target: TargetNetwork
    folder: Path
    records: tuple[Record, ...]
    num_recorded: int
    is_own: bool
    discrepancies: tuple[Discrepancy, ...]
    faults: tuple[Fault, ...] = ()
    missing: int = 0
    interrupted: int | None = None

    @property
    def status(self) -> Literal["ok", "fail", "unfinished"]:
        """Whether all images are allowed and, for the run's own network, all records agree."""
        if self.discrepancies:
            return "fail"
        return "unfinished" if self.faults or self.missing else "ok"

    @property
    def num_evaluated(self) -> int:
        """Adversarial images that were evaluated."""
        return sum(map(is_stored, self.records))

    def write(self) -> None:
        """Writes the result to `judgement.json`.

        Raises:
            OSError: the folder cannot be written.
        """
        discrepancies = [asdict(each) for each in self.discrepancies]
        content = {**asdict(self.target), "status": self.status, "discrepancies": discrepancies}
        write_json(self.folder / "judgement.json", content)

    def __str__(self) -> str:
        checked = "box, radii and norms" + (", successes and shares of broken pixels" if self.is_own else "")
        lines = [
            f"{self.target.name}: {self.num_evaluated} of {self.num_recorded} adversarial images evaluated; {checked}: "
            f"{self.status}",
            *_first(self.discrepancies, f"all of them in {self.folder / 'judgement.json'}"),
        ]
        if self.faults:
            images = len({fault.sample_id for fault in self.faults})
            lines.append(
                f"errors occurred for {images} images, which lack these records; tracebacks are in "
                f"{self.folder / 'faults'}, and the same command retries them:"
            )
            lines += _first([fault.describe() for fault in self.faults], "all of them in that folder")
        if self.interrupted is not None:
            lines.append(f"stopped by {signal.Signals(self.interrupted).name}")
        if self.missing:
            lines.append(f"not finished: {self.missing} records are missing; run again to continue")
        return "\n".join(lines)


def _first(items: Sequence[object], where: str) -> list[str]:
    """The first items, one line each, and the place of the rest."""
    more = [f"  and {len(items) - _SHOWN} more, {where}"] if len(items) > _SHOWN else []
    return [*(f"  {item}" for item in items[:_SHOWN]), *more]


def is_stored(record: Record) -> bool:
    """Whether the adversarial image of a record may be stored; those of clean images and by-products are not."""
    return record.kind not in ("clean", "by-product")


def find_discrepancies(
    records: Iterable[Record], sources: Mapping[Key, Record], *, is_own: bool
) -> tuple[Discrepancy, ...]:
    """Compares records of a network with those of the run.

    Args:
        records: of the network.
        sources: the run's records by key.
        is_own: whether the network is that of the run, so that successes and shares of broken pixels must agree.
    """
    return tuple(
        Discrepancy(
            sample_id=record.sample_id,
            sample_name=record.sample_name,
            attack=record.attack,
            eps=record.eps,
            detail="; ".join(details),
        )
        for record in records
        if (details := [*_forbidden(record), *_differences(record, sources.get(record.key), is_own)])
    )


def _forbidden(record: Record) -> Iterator[str]:
    if OUTSIDE_BOX in record.flags:
        yield "the image lies outside [0, 1]"
    if ABOVE_EPS in record.flags:
        yield f"the norm {record.norm:.8g} is above the radius"


def _differences(record: Record, source: Record | None, is_own: bool) -> Iterator[str]:
    if source is None:  # a by-product at a radius of which the run has none
        return
    if math.isfinite(source.norm) and abs(record.norm - source.norm) > norm_slack(source.norm):
        yield f"norm {record.norm:.8g}, recorded {source.norm:.8g}"
    if record.num_valid != source.num_valid:
        yield f"{record.num_valid} valid pixels, recorded {source.num_valid}"
    if not is_own:
        return
    if record.success != source.success:
        yield f"success {record.success}, recorded {source.success}"
    if record.success != source.success or abs(record.apsr - source.apsr) > APSR_TOLERANCE:
        yield f"{record.apsr:.6f} of the pixels broken, recorded {source.apsr:.6f}"
    for name in ("tp", "fp", "fn"):
        counts, recorded = getattr(record, name), getattr(source, name)
        most = max(1.0, APSR_TOLERANCE * record.num_valid)
        if any(abs(now - there) > most for now, there in zip(counts, recorded, strict=True)):
            yield f"{name} {shortened(list(counts))}, recorded {shortened(list(recorded))}"
