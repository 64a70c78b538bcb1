"""Results on disk: one JSON line per measurement, appended as soon as it exists."""

import contextlib
import fcntl
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from segrobust.evaluation.plan import Radius
from segrobust.evaluation.run.strict_json import to_line, write_json
from segrobust.functional.norms import NormName
from segrobust.metrics import Tally
from segrobust.metrics.norm_statistics import ROUNDING

SCHEMA: Final = 3
"""Version of the records' format."""

Kind = Literal["clean", "minimal-norm", "by-product", "fixed-budget"]
Unit = Literal["pixel"]
Side = Literal["upper", "lower", "exact"]
Key = tuple[int, str, Radius | None]
NO_VALID_PIXEL: Final = "no-valid-pixel"
CLEAN: Final = "clean"
NO_THREAT: Final = "none"
_SHOWN: Final = 5


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image under one attack at one radius.

    Attributes:
        sample_id: position of the image in the data set.
        sample_name: its name there.
        sample_digest: of the image and mask that were measured; see `LoadedSample.digest`. Empty if it is unknown: it
            is then not compared.
        sequence: the recording it is from; images of one recording are similar.
        attack: name of the job; "clean" for the clean image.
        digest: of the attack's identity; "clean" for the clean image.
        kind: "clean"; "minimal-norm"; "fixed-budget"; or "by-product", a minimal-norm perturbation that was projected
            into the ball of radius `eps`.
        norm_name: norm of the attack; None if clean.
        eps: radius, image units; "min" for a minimal norm; None if clean.
        threat: what the adversary may change: "linf ball everywhere", every pixel within a ball of that norm; "none"
            if clean.
        unit: what is counted as broken or right: "pixel".
        side: which side of the network's true robustness the numbers are on: "upper" for an attack, since a better one
            may break more; "lower" for a proof; "exact" for the image as it is.
        success: whether the attack's criterion is met.
        norm: of the perturbation, image units; inf for a minimal-norm attack that failed.
        apsr: share of valid pixels that are broken; nan if no pixel is valid.
        clean_apsr: the same share for the clean image.
        num_valid: valid pixels.
        tp: true positives of every class in the prediction for this perturbation, over valid pixels.
        fp: false positives.
        fn: false negatives.
        boundary: valid pixels near borders between classes, and those of them that are correct; see
            `segrobust.metrics.regions`. None if they were not counted.
        objects: tallies of small, medium and large objects: objects, objects found, pixels, correct pixels. None if
            they were not counted.
        first_success: index of the first successful iterate of the attack, -1 if there is none.
        num_forwards: forward passes spent on this image for this record.
        num_backwards: backward passes.
        seconds: time of the batch divided by the number of its images.
        seed: of the run.
        flags: problems of this measurement; `"no-valid-pixel"`.
        schema: version of the format.
    """

    sample_id: int
    sample_name: str
    sample_digest: str = ""
    sequence: str
    attack: str
    digest: str
    kind: Kind
    norm_name: NormName | None
    eps: Radius | None
    threat: str
    unit: Unit = "pixel"
    side: Side
    success: bool
    norm: float
    apsr: float
    clean_apsr: float
    num_valid: int
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    fn: tuple[int, ...]
    boundary: tuple[int, int] | None
    objects: tuple[Tally, Tally, Tally] | None
    first_success: int
    num_forwards: int
    num_backwards: int
    seconds: float
    seed: int
    flags: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def key(self) -> Key:
        """Identifies the measurement; there is one record per key."""
        return self.sample_id, self.digest, self.eps

    def breaks(self, norm_name: NormName, eps: float) -> bool:
        """Whether this measurement shows that a perturbation within `eps` meets the criterion of success."""
        fits = self.kind == "clean" or self.norm_name == norm_name
        return fits and self.success and self.norm <= eps + ROUNDING

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
        schema = data.get("schema") if isinstance(data, dict) else type(data).__name__
        if schema != SCHEMA:
            raise ValueError(
                f"this version reads records of schema {SCHEMA}, got {schema!r}; install the one that wrote it"
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
    boundary, objects = data["boundary"], data["objects"]
    return {
        **data,
        **floats,
        **tuples,
        "boundary": None if boundary is None else tuple(boundary),
        "objects": None if objects is None else tuple(tuple(tally) for tally in objects),
    }


class RecordWriteError(OSError):
    """Records could not be written to their file; the message gives the place where they are instead."""


class RecordWriter:
    """Appends records to `records/rank000.jsonl` of a run directory, and flushes each.

    Opening truncates the file at its last newline, because an incomplete line is from a job that was killed. The file
    is locked until it is closed, so that two jobs never write to one file.

    Args:
        directory: the run directory.
        rank: number of this process.

    Raises:
        OSError: the directory cannot be written.
        ValueError: another process is writing to this file.
    """

    def __init__(self, directory: str | os.PathLike[str], rank: int = 0) -> None:
        folder = Path(directory) / "records"
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"rank{rank:03d}.jsonl"
        self._file = self.path.open("ab", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ValueError(
                f"another process is writing to {self.path}: wait for it or end it, or use another run directory; "
                "processes that share a run have different ranks"
            ) from error
        os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def write(self, records: Sequence[Record]) -> None:
        """Appends one line each, together, and flushes them: a killed process does not lose them.

        Raises:
            RecordWriteError: the disk is full, or gone; the lines are then in a file in the system's folder of
                temporary files or, if that cannot be written either, on stderr.
        """
        content = b"".join(record.to_line().encode() + b"\n" for record in records)
        size = self.path.stat().st_size
        try:
            written = 0
            while written < len(content):
                written += self._file.write(content[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
            raise RecordWriteError(
                f"{self.path} cannot be written ({error.strerror}); {_rescue(content, len(records))}"
            ) from error

    def close(self) -> None:
        """Closes the file; writing afterwards raises."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _rescue(content: bytes, num_records: int) -> str:
    """Writes lines to another place; returns the place and how to recover them."""
    try:
        with tempfile.NamedTemporaryFile(prefix="segrobust-", suffix=".jsonl", delete=False) as file:
            file.write(content)
    except OSError:
        sys.stderr.buffer.write(content)
        return f"{num_records} records were printed above; free some space and run the same command again"
    return (
        f"{num_records} records are safe in {file.name}; free some space, append that file to this one, "
        "and run the same command again"
    )


def read_records(directory: str | os.PathLike[str]) -> tuple[Record, ...]:
    """All records of a run directory, one per key; empty if there are none yet.

    A last line without newline is left out: it is incomplete, or still being written. Records of a sample that was
    measured again, because its image or mask had changed, count only if they are of the present image and mask; see
    `supersede`.

    Raises:
        ValueError: a line that is no record, with file and line number, or two records of one sample whose images or
            masks differ.
    """
    now = _read_current(directory)
    shards = sorted((Path(directory) / "records").glob("rank*.jsonl"))
    every = (record for shard in shards for record in _read_shard(shard))
    try:
        return merge_records(r for r in every if now.get(r.sample_id, r.sample_digest) == r.sample_digest)
    except ContradictionError as error:
        raise ContradictionError(f"{directory}: {error}") from error


def supersede(directory: str | os.PathLike[str], digests: Mapping[int, str]) -> None:
    """From now on, records of these samples count only if they are of an image and mask with the given digest.

    The lines stay in their files. `records/current.json` holds the digests, and is replaced in one step.

    Args:
        directory: the run directory.
        digests: by sample id.

    Raises:
        OSError: the directory cannot be written.
    """
    current = {**_read_current(directory), **digests}
    write_json(_current(directory), {str(sample_id): digest for sample_id, digest in sorted(current.items())})


def _current(directory: str | os.PathLike[str]) -> Path:
    return Path(directory) / "records" / "current.json"


def _read_current(directory: str | os.PathLike[str]) -> dict[int, str]:
    path = _current(directory)
    if not path.exists():
        return {}
    try:
        return {int(sample_id): str(digest) for sample_id, digest in json.loads(path.read_bytes()).items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); use another run directory") from error


def _read_shard(path: Path) -> Iterator[Record]:
    *lines, _torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            record = Record.from_line(line)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        yield record


class ContradictionError(ValueError):
    """Records of one sample that are of different images or masks; the message names the samples."""


def merge_records(records: Iterable[Record]) -> tuple[Record, ...]:
    """The first record of each key, by sample and, within a sample, in the given order.

    Raises:
        ContradictionError: two records of one sample whose images or masks differ.
    """
    first: dict[Key, Record] = {}
    digests: dict[int, str] = {}
    contradicted: dict[int, str] = {}
    for record in records:
        first.setdefault(record.key, record)
        if record.sample_digest and digests.setdefault(record.sample_id, record.sample_digest) != record.sample_digest:
            contradicted[record.sample_id] = record.sample_name
    if contradicted:
        raise ContradictionError(
            f"records of {name_samples(contradicted)} are of different images or masks: processes read other data, or "
            "files of several runs were put together; give all processes the same data, and measure these samples anew "
            "with redo_changed (--redo_changed true), or use a new run directory"
        )
    return tuple(sorted(first.values(), key=lambda record: record.sample_id))


def digests_of(records: Iterable[Record]) -> dict[int, str]:
    """Digest of the image and mask of each sample, by sample id; see `LoadedSample.digest`."""
    return {record.sample_id: record.sample_digest for record in records if record.sample_digest}


def name_samples(names: Mapping[int, str]) -> str:
    """How many samples, and which: the first few by position and name."""
    shown = ", ".join(f"{sample_id} ({name})" for sample_id, name in sorted(names.items())[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} sample{'' if len(names) == 1 else 's'}, {shown}{more},"
