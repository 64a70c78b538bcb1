"""Results on disk: one JSON line per measurement, appended as soon as it exists."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from segrobust.evaluation.plan import Radius
from segrobust.evaluation.strict_json import to_line
from segrobust.functional.norms import NormName

SCHEMA: Final = 1
"""Version of the records' format. Later versions of the package read all earlier ones."""

Kind = Literal["clean", "minimal-norm", "by-product", "fixed-budget"]
Key = tuple[int, str, Radius | None]
NO_VALID_PIXEL: Final = "no-valid-pixel"
CLEAN: Final = "clean"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image under one attack at one radius.

    Attributes:
        sample_id: position of the image in the data set.
        sample_name: its name there.
        attack: name of the job; "clean" for the image as it is.
        digest: of the attack's repr; "clean" for the image as it is.
        kind: "clean"; "minimal-norm"; "fixed-budget"; or "by-product", a minimal-norm perturbation that was projected
            into the ball of radius `eps`.
        norm_name: norm of the attack; None if clean.
        eps: radius, image units; "min" for a minimal norm; None if clean.
        success: whether the attack's criterion is met.
        norm: of the perturbation, image units; inf for a minimal-norm attack that failed.
        apsr: share of valid pixels that are broken; nan where no pixel is valid.
        clean_apsr: the same share for the image as it is.
        num_valid: valid pixels.
        tp: true positives of every class in the prediction for this perturbation, over valid pixels.
        fp: false positives.
        fn: false negatives.
        first_success: first successful iterate of the attack, -1 if there was none.
        num_forwards: forward passes spent on this image for this record.
        num_backwards: backward passes.
        seconds: time of the batch over the number of its images.
        seed: of the run.
        flags: what is wrong with this measurement; `"no-valid-pixel"`.
        schema: version of this format.
    """

    sample_id: int
    sample_name: str
    attack: str
    digest: str
    kind: Kind
    norm_name: NormName | None
    eps: Radius | None
    success: bool
    norm: float
    apsr: float
    clean_apsr: float
    num_valid: int
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    fn: tuple[int, ...]
    first_success: int
    num_forwards: int
    num_backwards: int
    seconds: float
    seed: int
    flags: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def key(self) -> Key:
        """What there is one record of."""
        return self.sample_id, self.digest, self.eps

    def to_line(self) -> str:
        """One line of strict JSON without newline; inf and nan as strings."""
        return to_line(asdict(self))

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """The inverse of `to_line`.

        Raises:
            ValueError: no JSON, another schema, or fields that are missing or unknown.
        """
        data = json.loads(line)
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            got = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise ValueError(
                f"this version reads records of schema {SCHEMA}, got {got!r}; install the one that wrote it"
            )
        if set(data) != set(cls.__dataclass_fields__):
            raise ValueError(
                f"fields differ from those of a record: {sorted(set(data) ^ set(cls.__dataclass_fields__))}"
            )
        return cls(**_typed(data))


def _typed(data: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values as the types of the fields: strings that stand for floats, lists that stand for tuples."""
    floats = {name: float(data[name]) for name in ("norm", "apsr", "clean_apsr", "seconds")}
    tuples = {name: tuple(data[name]) for name in ("tp", "fp", "fn", "flags")}
    return {**data, **floats, **tuples}


class RecordWriter:
    """Appends records to `records/rank000.jsonl` of a run directory, each written through when it comes.

    Opening cuts the file at its last newline: what follows is the torn line of a job that was killed.

    Args:
        directory: the run directory.
        rank: number of this process.

    Raises:
        OSError: the directory cannot be written.
    """

    def __init__(self, directory: str | os.PathLike[str], rank: int = 0) -> None:
        folder = Path(directory) / "records"
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"rank{rank:03d}.jsonl"
        if self.path.exists():
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)
        self._file = self.path.open("ab")

    def write(self, record: Record) -> None:
        """Appends one line and hands it to the operating system: a killed process does not lose it."""
        self._file.write(record.to_line().encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file; writing afterwards raises."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_records(directory: str | os.PathLike[str]) -> tuple[Record, ...]:
    """All records of a run directory, one per key; empty where there is none yet.

    A last line without newline is left out: it is torn, or still being written.

    Raises:
        ValueError: a line that is no record, with file and line number.
    """
    shards = sorted((Path(directory) / "records").glob("rank*.jsonl"))
    return merge_records(record for shard in shards for record in _read_shard(shard))


def _read_shard(path: Path) -> Iterator[Record]:
    *lines, _torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            record = Record.from_line(line)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        yield record


def merge_records(records: Iterable[Record]) -> tuple[Record, ...]:
    """The first record of each key, by sample and, within a sample, in the order of their coming."""
    first: dict[Key, Record] = {}
    for record in records:
        first.setdefault(record.key, record)
    return tuple(sorted(first.values(), key=lambda record: record.sample_id))
