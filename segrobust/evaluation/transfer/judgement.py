"""What a network says of the adversarial images of a run: its records, who it is, and whether the run holds true."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

from segrobust.evaluation.run.records import Key, Record, read_records
from segrobust.evaluation.run.strict_json import write_json

JUDGEMENT_SCHEMA: Final = 1
"""Version of the format of `judgement.json`."""

OUTSIDE_BOX: Final = "outside-box"
ABOVE_EPS: Final = "above-eps"

APSR_TOLERANCE: Final = 1e-3
"""What the share of broken pixels may differ by between two judgements of one image by one network.

Kernels differ with device and batch size in a last bit, and minimal perturbations leave many pixels close to a tie."""

NORM_TOLERANCE: Final = 1e-6
"""What two measurements of one norm may differ by, relative where the norm is above 1: float32 kernels, and images of a
float64 network that were rounded to float32 when they were kept."""

_SHOWN: Final = 20
"""Mismatches that are printed."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The network that judges, and when it began.

    Attributes:
        name: for people.
        weights: digest of its weights.
        preprocessing: settings of the wrappers around it that are not weights.
        data: fingerprint of the data set.
        network_description: a line about it for people.
        time: UTC, ISO 8601.
        schema: version of this format.
    """

    name: str
    weights: str
    preprocessing: str
    data: str
    network_description: str
    time: str
    schema: int = JUDGEMENT_SCHEMA

    def folder(self, run_dir: Path) -> Path:
        """Where its judgement of a run lies."""
        return run_dir / "judged" / self.weights[:8]

    def claim(self, folder: Path) -> None:
        """Makes the folder, or goes on with one that this judge began; the name may change.

        Raises:
            ValueError: the folder holds the judgement of another network, or is damaged.
            OSError: it cannot be written.
        """
        path = folder / "judgement.json"
        if path.exists():
            before = Judge.read(path)
            for field in ("weights", "preprocessing", "data"):
                there, now = getattr(before, field), getattr(self, field)
                if there != now:
                    raise ValueError(
                        f"{folder} holds the judgement of another network ({field}: {there} there, {now} now); move it "
                        "away to judge with this one"
                    )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {**asdict(self), "status": "unfinished", "mismatches": []})

    @classmethod
    def read(cls, path: Path) -> Self:
        """The judge of a `judgement.json`.

        Raises:
            ValueError: the file is damaged or of another schema; the message names it.
            OSError: it cannot be read.
        """
        try:
            content: Any = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); delete it and judge again") from error
        names = {field.name for field in fields(cls)}
        if not isinstance(content, dict) or content.get("schema") != JUDGEMENT_SCHEMA or not names <= set(content):
            raise ValueError(f"{path} is no judgement of schema {JUDGEMENT_SCHEMA}; delete it and judge again")
        return cls(**{name: content[name] for name in names})


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """An adversarial image, or a clean one, of which something else was recorded, or that is no adversarial image."""

    sample_id: int
    sample_name: str
    attack: str
    eps: float | Literal["min"] | None
    detail: str

    def __str__(self) -> str:
        radius = "" if self.eps is None else f" at {self.eps if self.eps == 'min' else f'{self.eps:.6g}'}"
        return f"image {self.sample_id} ({self.sample_name}), {self.attack}{radius}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a network says of the adversarial images that a run kept.

    Attributes:
        judge: the network.
        folder: where this lies: `judgement.json` and `records/`.
        records: one per image as it is and per adversarial image. Other than in a run, `norm` is measured whether or
            not the image is broken. `"outside-box"` and `"above-eps"` among the flags mark images that are not allowed.
        num_recorded: results of the run that had an adversarial image, kept or not.
        is_own: whether the network is the one that the run attacked, so that its records must agree.
        mismatches: what speaks against the run; empty if nothing does.
    """

    judge: Judge
    folder: Path
    records: tuple[Record, ...]
    num_recorded: int
    is_own: bool
    mismatches: tuple[Mismatch, ...]

    @property
    def status(self) -> Literal["ok", "fail"]:
        """Whether all images are allowed, and, of the run's own network, whether all records agree."""
        return "fail" if self.mismatches else "ok"

    @property
    def num_judged(self) -> int:
        """Adversarial images that were judged."""
        return sum(record.kind != "clean" for record in self.records)

    def write(self) -> None:
        """Writes the outcome to `judgement.json`.

        Raises:
            OSError: the folder cannot be written.
        """
        mismatches = [asdict(mismatch) for mismatch in self.mismatches]
        write_json(
            self.folder / "judgement.json", {**asdict(self.judge), "status": self.status, "mismatches": mismatches}
        )

    def __str__(self) -> str:
        checked = "box, radii and norms" + (", successes and shares of broken pixels" if self.is_own else "")
        lines = [
            f"{self.judge.name} judged {self.num_judged} of {self.num_recorded} adversarial images; {checked}: "
            f"{self.status}",
            *(f"  {mismatch}" for mismatch in self.mismatches[:_SHOWN]),
        ]
        if len(self.mismatches) > _SHOWN:
            lines.append(f"  and {len(self.mismatches) - _SHOWN} more, all of them in {self.folder / 'judgement.json'}")
        return "\n".join(lines)


def adversarial_records(run_dir: Path) -> dict[Key, Record]:
    """The records of a run by key, without by-products: of these no image is kept."""
    return {record.key: record for record in read_records(run_dir) if record.kind != "by-product"}


def find_mismatches(judged: Iterable[Record], sources: Mapping[Key, Record], *, is_own: bool) -> tuple[Mismatch, ...]:
    """Compares judgements with what the run recorded.

    Args:
        judged: records of the judging network.
        sources: the run's records by key.
        is_own: whether the network is that of the run, so that successes and shares of broken pixels must agree.
    """
    return tuple(
        Mismatch(
            sample_id=record.sample_id,
            sample_name=record.sample_name,
            attack=record.attack,
            eps=record.eps,
            detail="; ".join(details),
        )
        for record in judged
        if (details := [*_forbidden(record), *_differences(record, sources[record.key], is_own)])
    )


def flags_of(lowest: float, highest: float, norm: float, source: Record) -> tuple[str, ...]:
    """What forbids an adversarial image: values outside [0, 1], or a norm above the radius of its attack.

    Args:
        lowest: smallest value of the image.
        highest: largest value.
        norm: measured norm of the perturbation.
        source: the record of the run.
    """
    outside = (OUTSIDE_BOX,) if lowest < 0 or highest > 1 else ()
    too_far = isinstance(source.eps, float) and norm > source.eps + _slack(source.eps)
    return (*outside, ABOVE_EPS) if too_far else outside


def _forbidden(record: Record) -> Iterator[str]:
    if OUTSIDE_BOX in record.flags:
        yield "the image lies outside [0, 1]"
    if ABOVE_EPS in record.flags:
        yield f"the norm {record.norm:.8g} is above the radius"


def _differences(record: Record, source: Record, is_own: bool) -> Iterator[str]:
    if math.isfinite(source.norm) and abs(record.norm - source.norm) > _slack(source.norm):
        yield f"norm {record.norm:.8g}, recorded {source.norm:.8g}"
    if not is_own:
        return
    if record.success != source.success:
        yield f"success {record.success}, recorded {source.success}"
    if record.success != source.success or abs(record.apsr - source.apsr) > APSR_TOLERANCE:
        yield f"{record.apsr:.6f} of the pixels broken, recorded {source.apsr:.6f}"


def _slack(norm: float) -> float:
    return NORM_TOLERANCE * max(1.0, norm)
