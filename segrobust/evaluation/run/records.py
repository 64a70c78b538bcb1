"""Results on disk: one JSON line per measurement, appended as soon as it exists."""

import contextlib
import errno
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, Self

from segrobust.evaluation.plan import Radius
from segrobust.evaluation.run.claim import Claim
from segrobust.evaluation.run.locks import require_lock
from segrobust.evaluation.run.manifest import LEAST_RADIUS
from segrobust.evaluation.run.strict_json import (
    cut_incomplete,
    parse_line,
    read_document,
    read_lines,
    shards,
    to_line,
    write_json,
)
from segrobust.functional.norms import NormName
from segrobust.metrics import Tally
from segrobust.metrics.norm_statistics import ROUNDING
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import (
    MOST_COUNTED,
    Reader,
    boolean,
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
from segrobust.untrusted.printable import shortened, visible
from segrobust.untrusted.regular_files import flush_to_disk, open_to_append

SCHEMA: Final = 3
"""Version of the records' format."""

Kind = Literal["clean", "minimal-norm", "by-product", "fixed-budget"]
Unit = Literal["pixel"]
Side = Literal["upper", "lower", "exact"]
Key = tuple[int, str, Radius | None]
NO_VALID_PIXEL: Final = "no-valid-pixel"
OUTSIDE_BOX: Final = "outside-box"
ABOVE_EPS: Final = "above-eps"
CLEAN: Final = "clean"
NO_THREAT: Final = "none"
_SHOWN: Final = 5
_FULL: Final = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""Errors of a disk that keeps what is on it."""

_BETWEEN_FLUSHES: Final = 1.0
"""Seconds; what was written since then is lost if the power fails."""

NORM_OF_SAME_WORK: Final = 1e-5
"""Largest relative difference of the norms of two records of one measurement.

A batch of a lost process may be measured twice, in batches of other sizes, whose kernels differ in a last bit: on a toy
network in float32 by at most 1.7e-7."""

_RELATIVE_SLACK: Final = 1e-4
_SLACK: Final = {"linf": 1e-6, "l2": 1e-3, "l1": 1.0}
"""By which norms may exceed their bounds: adding to an image in float32 rounds each value by up to 6e-8."""

SHARE_OF_SAME_WORK: Final = 1e-3
"""Largest difference of their shares of pixels: minimal perturbations leave many pixels close to a tie."""


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
        flags: problems of this measurement: `"no-valid-pixel"`, and of stored images `"outside-box"` and `"above-eps"`.
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
            DataFault: no strict JSON, another schema, fields that are missing or unknown, or a value that no
                measurement gives: another type, a count below 0, a share outside [0, 1], counts that contradict.
        """
        return cls.of(parse_line(line.encode() if isinstance(line, str) else line, "a record"), "a record")

    @classmethod
    def of(cls, value: object, where: str) -> Self:
        """The record in a parsed line.

        Args:
            value: the parsed line.
            where: file and line, for messages.

        Raises:
            DataFault: as `from_line`.
        """
        schema = value.get("schema") if isinstance(value, Mapping) else type(value).__name__
        if schema != SCHEMA:
            raise DataFault(
                f"{where}: this version reads records of schema {SCHEMA}, got {shortened(schema)}; install the one "
                "that wrote it"
            )
        try:
            record = cls(**read_fields(value, _READERS))
            for problem in contradictions(record):
                raise ValueError(problem)
        except ValueError as error:
            raise DataFault(f"{where} is no record: {error}") from error
        return record


def read_radius(value: object) -> Radius | None:
    """A radius, "min" or None.

    Raises:
        ValueError: another value.
    """
    if value is None:
        return None
    if value == "min":
        return "min"
    found: float = number(LEAST_RADIUS, MOST_COUNTED)(value)
    return found


_SHARE: Final = number(0, 1, named=("nan",))
_COUNTS: Final = list_of(whole(), least=1, most=2**16)
_READERS: Final[dict[str, Reader]] = {
    "sample_id": whole(),
    "sample_name": text(),
    "sample_digest": text(256),
    "sequence": text(),
    "attack": token,
    "digest": token,
    "kind": one_of("clean", "minimal-norm", "by-product", "fixed-budget"),
    "norm_name": one_of("linf", "l2", "l1", None),
    "eps": read_radius,
    "threat": text(),
    "unit": one_of("pixel"),
    "side": one_of("upper", "lower", "exact"),
    "success": boolean,
    "norm": number(0, named=("inf",)),
    "apsr": _SHARE,
    "clean_apsr": _SHARE,
    "num_valid": whole(),
    "tp": _COUNTS,
    "fp": _COUNTS,
    "fn": _COUNTS,
    "boundary": optional(list_of(whole(), least=2, most=2)),
    "objects": optional(list_of(list_of(whole(), least=4, most=4), least=3, most=3)),
    "first_success": whole(-1),
    "num_forwards": whole(),
    "num_backwards": whole(),
    "seconds": number(0),
    "seed": whole(0, 2**31),
    "flags": list_of(one_of(NO_VALID_PIXEL, OUTSIDE_BOX, ABOVE_EPS), most=3),
    "schema": whole(SCHEMA, SCHEMA),
}


def contradictions(record: Record) -> Iterator[str]:
    """What no measurement of one image gives, one sentence each."""
    is_clean = record.kind == "clean"
    radii = {"clean": (None,), "minimal-norm": ("min",)}
    fits = record.eps in radii[record.kind] if record.kind in radii else isinstance(record.eps, float)
    if not fits or is_clean != (record.norm_name is None) or is_clean != (record.digest == CLEAN):
        yield (
            f"kind {record.kind}, digest {record.digest}, norm_name {record.norm_name} and eps {record.eps} do not go "
            "together"
        )
    if not len(record.tp) == len(record.fp) == len(record.fn):
        yield f"tp, fp and fn are of {len(record.tp)}, {len(record.fp)} and {len(record.fn)} classes"
    right, false, missed = sum(record.tp), sum(record.fp), sum(record.fn)
    if right + missed != record.num_valid or false != missed:
        yield (
            f"of num_valid={record.num_valid} pixels, tp + fn are {right + missed}, and fp and fn must have one sum, "
            f"got {false} and {missed}"
        )
    is_void = record.num_valid == 0
    if any(math.isnan(share) != is_void for share in (record.apsr, record.clean_apsr)) or is_void != (
        NO_VALID_PIXEL in record.flags
    ):
        yield (
            f"apsr={record.apsr}, clean_apsr={record.clean_apsr} and flags={list(record.flags)} do not go with "
            f"num_valid={record.num_valid}: shares are nan, and the flag is set, where no pixel is valid"
        )
    if record.success and (is_void or math.isinf(record.norm)):
        yield f"success is true with norm {record.norm} and {record.num_valid} valid pixels"
    if record.kind == "clean" and record.norm:
        yield f"the norm of a clean image is {record.norm}"
    largest = _largest_norm(record)
    if math.isfinite(record.norm) and record.norm > largest:
        yield f"norm {record.norm:.8g} in {record.norm_name} is above {largest:g}"
    if record.boundary is not None and not record.boundary[1] <= record.boundary[0] <= record.num_valid:
        yield f"boundary={record.boundary} are not pixels and right ones among {record.num_valid}"
    for objects, found, pixels, correct in record.objects or ():
        if not (found <= objects <= pixels <= record.num_valid and correct <= pixels):
            yield f"objects {(objects, found, pixels, correct)} are not those of {record.num_valid} pixels"


def _largest_norm(record: Record) -> float:
    """Of a perturbation that stays in the box and in the ball of its attack; flags say that it does not."""
    if record.norm_name is None:
        return 0.0
    box = math.inf if OUTSIDE_BOX in record.flags else 1.0 if record.norm_name == "linf" else MOST_COUNTED
    radius = record.eps if isinstance(record.eps, float) and ABOVE_EPS not in record.flags else math.inf
    return min(box, radius) * (1 + _RELATIVE_SLACK) + _SLACK[record.norm_name]


class RecordWriteError(OSError):
    """Records could not be written to their file; the message gives the place where they are instead."""


class RecordWriter:
    """Appends records to `records/rank000.jsonl` of a run directory. They are on the disk at most a second later.

    Opening truncates the file at its last newline, because an incomplete line is from a job that was killed. A lock is
    held until it is closed, so that two jobs never write to one file.

    Args:
        directory: the run directory.
        rank: number of this process.
        claim: holds the directory for this process; its manifest is compared after each write. None to take the lock of
            this rank alone.

    Raises:
        OSError: the directory cannot be written.
        RunInUseError: another process is writing to this file.
        DataFault: the file is a link, has further names, or ends in what is longer than a line.
    """

    def __init__(self, directory: str | os.PathLike[str], rank: int = 0, *, claim: Claim | None = None) -> None:
        root = Path(directory)
        self.path = root / "records" / f"rank{rank:03d}.jsonl"
        self._claim = claim
        self._lock = require_lock(root, rank) if claim is None else None
        try:
            self._file = open_to_append(self.path, root=root)
            self._size = cut_incomplete(self._file, self.path)
            self._flushed, self._failed = time.monotonic(), False
        except BaseException:
            self._release()
            raise

    def write(self, records: Sequence[Record]) -> None:
        """Appends one line each, together: a killed process does not lose them.

        Raises:
            RecordWriteError: the disk is full or gone, or the file was deleted; the lines, with all earlier ones unless
                the disk is full, are then in a file in the system's folder of temporary files or, if that cannot be
                written either, on stderr.
            ManifestChangedError: another command took over the directory; the lines are written.
        """
        content = b"".join(record.to_line().encode() + b"\n" for record in records)
        try:
            written = 0
            while written < len(content):
                written += self._file.write(content[written:])
            self._flush(_BETWEEN_FLUSHES)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            self._failed = True
            kept = b"" if error.errno in _FULL else self._lines_before()
            raise RecordWriteError(
                f"{self.path} cannot be written ({error.strerror or error}); {_rescue(kept + content)}"
            ) from error
        self._failed = False
        self._size += len(content)
        self._require_in_place()
        if self._claim is not None:
            self._claim.require_unchanged()

    def close(self) -> None:
        """Closes the file; writing afterwards raises.

        Raises:
            RecordWriteError: as `write`.
        """
        if self._file.closed:
            return
        try:
            self._require_in_place()
            if not self._file.closed and not self._failed:
                self._flush(0.0)
        except RecordWriteError:
            raise
        except OSError as error:
            raise RecordWriteError(
                f"{self.path} cannot be written ({error.strerror or error}); {_rescue(self._lines_before())}"
            ) from error
        finally:
            self._close()

    def _flush(self, seconds: float) -> None:
        """Brings the lines to the disk, unless that was done less than so many seconds ago."""
        if time.monotonic() - self._flushed >= seconds:
            flush_to_disk(self._file)
            self._flushed = time.monotonic()

    def _lines_before(self) -> bytes:
        """The lines of earlier writes, which a disk that fails may have lost; those that can still be read."""
        try:
            self._file.seek(0)
            return self._file.read(self._size)
        except OSError:
            return b""

    def _close(self) -> None:
        self._file.close()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _require_in_place(self) -> None:
        """Rescues all lines where the name of the file has come to mean another file, or none.

        Writing to a file that was deleted succeeds, and what was written is gone when the file is closed.
        """
        try:
            if os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno())):
                return
            reason = "was replaced"
        except OSError as error:
            reason = f"is gone ({error.strerror or error})"
        try:
            self._file.seek(0)
            content = self._file.read()
        except OSError as error:
            raise RecordWriteError(f"{self.path} {reason}, and its lines cannot be read any more ({error})") from error
        finally:
            self._close()
        if content:
            raise RecordWriteError(f"{self.path} {reason}; {_rescue(content)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _rescue(content: bytes) -> str:
    """Writes lines to another place; returns the place and how to recover them."""
    num_records = content.count(b"\n")
    try:
        with tempfile.NamedTemporaryFile(prefix="segrobust-", suffix=".jsonl", delete=False) as file:
            file.write(content)
    except OSError:
        sys.stderr.write(content.decode())
        return f"{num_records} records were printed above; make room on the disk and run the same command again"
    return (
        f"{num_records} records are safe in {file.name}; make room or bring the disk back, append that file to this "
        "one, and run the same command again"
    )


def read_records(directory: str | os.PathLike[str]) -> tuple[Record, ...]:
    """All records of a run directory, one per key; empty if there are none yet.

    A last line without newline is left out: it is incomplete, or still being written. Records of a sample that was
    measured again, because its image or mask had changed, count only if they are of the present image and mask; see
    `supersede`.

    Raises:
        ValueError: a line that is no record, with file and line number, or records that contradict each other; see
            `merge_records`.
    """
    now = _read_current(directory)
    root = Path(directory)
    every = (record for shard in shards(root / "records") for record in _read_shard(shard, root))
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
    content = {str(sample_id): digest for sample_id, digest in sorted(current.items())}
    write_json(_current(directory), content, root=Path(directory))


def _current(directory: str | os.PathLike[str]) -> Path:
    return Path(directory) / "records" / "current.json"


def _read_current(directory: str | os.PathLike[str]) -> dict[int, str]:
    path = _current(directory)
    try:
        found = mapping_of(token)(read_document(path, "a file of digests", root=Path(directory)))
        wrong = next((key for key in found if not (key.isascii() and key.isdecimal() and str(int(key)) == key)), None)
        if wrong is not None:
            raise ValueError(f"a key must be the number of a sample, got {shortened(wrong)}")
    except FileNotFoundError:
        return {}
    except DataFault:
        raise
    except ValueError as error:
        raise DataFault(f"{path} is damaged ({error}); use another run directory") from error
    return {int(sample_id): digest for sample_id, digest in found.items()}


def _read_shard(path: Path, root: Path) -> Iterator[Record]:
    for where, value in read_lines(path, "a record", root=root):
        yield Record.of(value, where)


class ContradictionError(DataFault):
    """Records that cannot be of one run; the message names the samples."""


def merge_records(records: Iterable[Record]) -> tuple[Record, ...]:
    """The first record of each key, by sample and, within a sample, in the given order.

    Work may be done twice, by a process that was thought to be lost; what it gives may differ by rounding.

    Raises:
        ContradictionError: two records of one sample whose images or masks differ, two of one measurement that differ
            by more than rounding, or records of different numbers of classes.
    """
    first: dict[Key, Record] = {}
    digests: dict[int, str] = {}
    contradicted: dict[int, str] = {}
    for record in records:
        known = first.setdefault(record.key, record)
        if record.sample_digest and digests.setdefault(record.sample_id, record.sample_digest) != record.sample_digest:
            contradicted[record.sample_id] = record.sample_name
        elif known is not record and (difference := _difference(known, record)):
            where = "clean" if record.eps is None else f"{record.attack} at {record.eps}"
            raise ContradictionError(
                f"sample {record.sample_id} ({record.sample_name}), {where}, has two records that differ by more than "
                f"rounding ({difference}): delete the line that is wrong, or use a new run directory"
            )
    if contradicted:
        raise ContradictionError(
            f"records of {name_samples(contradicted)} are of different images or masks: processes read other data, or "
            "files of several runs were put together; give all processes the same data, and measure these samples anew "
            "with redo_changed (--redo_changed true), or use a new run directory"
        )
    merged = tuple(sorted(first.values(), key=lambda record: record.sample_id))
    for record in merged:
        if len(record.tp) != len(merged[0].tp):
            raise ContradictionError(
                f"records are of different numbers of classes: {len(merged[0].tp)} for sample {merged[0].sample_id}, "
                f"{len(record.tp)} for sample {record.sample_id}; files of several runs were put together"
            )
    return merged


def _difference(there: Record, now: Record) -> str:
    """In what two records of one measurement differ by more than rounding; empty if they do not."""
    for name in ("kind", "norm_name", "success", "num_valid", "seed", "flags"):
        values = getattr(there, name), getattr(now, name)
        if values[0] != values[1]:
            return f"{name} {values[0]} and {values[1]}"
    if not math.isclose(there.norm, now.norm, rel_tol=NORM_OF_SAME_WORK, abs_tol=ROUNDING):
        return f"norm {there.norm:.8g} and {now.norm:.8g}"
    for name in ("apsr", "clean_apsr"):
        shares = getattr(there, name), getattr(now, name)
        if abs(shares[0] - shares[1]) > SHARE_OF_SAME_WORK:  # False for nan, which both are
            return f"{name} {shares[0]:.6g} and {shares[1]:.6g}"
    for name in ("tp", "fp", "fn"):
        counts = getattr(there, name), getattr(now, name)
        most = max(1.0, SHARE_OF_SAME_WORK * there.num_valid)
        if len(counts[0]) == len(counts[1]) and any(abs(a - b) > most for a, b in zip(*counts, strict=True)):
            return f"{name} {shortened(counts[0])} and {shortened(counts[1])}"
    return ""


def digests_of(records: Iterable[Record]) -> dict[int, str]:
    """Digest of the image and mask of each sample, by sample id; see `LoadedSample.digest`."""
    return {record.sample_id: record.sample_digest for record in records if record.sample_digest}


def name_samples(names: Mapping[int, str]) -> str:
    """How many samples, and which: the first few by position and name."""
    shown = ", ".join(f"{sample_id} ({visible(name)})" for sample_id, name in sorted(names.items())[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} sample{'' if len(names) == 1 else 's'}, {shown}{more},"
