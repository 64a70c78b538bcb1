"""Whether the records of a run are of what its manifest says, and claim no success that their numbers deny."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import torch

from segrobust.attacks import Criterion, Targeted, Untargeted
from segrobust.evaluation.run.manifest import AttackEntry, Manifest
from segrobust.evaluation.run.records import CLEAN, Record, read_records
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import shortened

_SHARE_OF_PIXELS: Final = re.compile(
    r"(Untargeted|Targeted)\(apsr=([01](?:\.[0-9]{1,9})?|[1-9](?:\.[0-9]{1,3})?e-0[1-6])\)( towards .*)?", re.DOTALL
)
"""Criteria of one share; with at most nine decimals, counts times the share fit in 64 bits."""

_ROUNDING: Final = 2.0**-22
"""Of a share in float32, so that the number of broken pixels is exact for images of up to 4 million."""


def read_criterion(identity: str) -> Criterion | None:
    """The criterion in a manifest, without running code from a file; None for one of another kind.

    Args:
        identity: see `Manifest.criterion`; what follows a criterion are its targets.

    Raises:
        ValueError: a share outside (0, 1].
    """
    match = _SHARE_OF_PIXELS.fullmatch(identity)
    if match is None:
        return None
    return (Untargeted if match[1] == "Untargeted" else Targeted)(apsr=float(match[2]))


def read_run_records(directory: Path) -> tuple[Record, ...]:
    """All records of a directory, which agree with its manifest if it has one; judgements have none.

    Raises:
        DataFault: as `read_records`, `Manifest.read` and `require_consistent`.
        OSError: a file cannot be opened.
    """
    records, manifest = read_records(directory), RunDirectory(directory).manifest
    if records and manifest.exists():
        require_consistent(Manifest.read(manifest), records, directory)
    return records


def require_consistent(manifest: Manifest, records: Sequence[Record], directory: Path) -> None:
    """Refuses records that cannot be of the run that a manifest describes.

    Args:
        manifest: of the run.
        records: of the run.
        directory: of the run, for messages.

    Raises:
        DataFault: an attack, a radius, a norm, a seed or a number of classes that the manifest does not have; numbers
            of valid pixels of one image that differ; or a success that the share of broken pixels denies.
    """
    try:
        criterion = read_criterion(manifest.criterion)
    except ValueError as error:
        raise DataFault(f"{RunDirectory(directory).manifest}: the criterion is none: {error}") from error
    foreign = _foreign(manifest, records)
    for record, problem in (*foreign, *(() if criterion is None else _denied(criterion, records))):
        where = "clean" if record.eps is None else f"{record.attack} at {record.eps}"
        raise DataFault(
            f"the records in {directory} contradict themselves or the manifest: sample {record.sample_id} "
            f"({record.sample_name}), {where}: {problem}; delete the line that is wrong, or use another run directory"
        )


def _foreign(manifest: Manifest, records: Sequence[Record]) -> Iterator[tuple[Record, str]]:
    """Records that the manifest cannot have, and why."""
    entries, num_valid = {entry.digest: entry for entry in manifest.attacks}, dict[int, int]()
    num_classes = None if manifest.label_space is None else manifest.label_space.num_classes
    for record in records:
        known = num_valid.setdefault(record.sample_id, record.num_valid)
        if known != record.num_valid:
            yield record, f"{record.num_valid} valid pixels, and {known} in another record"
        if num_classes not in (None, len(record.tp)):
            yield record, f"counts of {len(record.tp)} classes, and the manifest has {num_classes}"
        if record.seed != manifest.seed:
            yield record, f"the seed is {record.seed}, and {manifest.seed} in the manifest"
        if record.digest == CLEAN:
            continue
        if record.digest not in entries:
            yield record, f"the attack {record.digest} is not in the manifest"
            continue
        yield from ((record, problem) for problem in _differences(entries[record.digest], record))


def _differences(entry: AttackEntry, record: Record) -> Iterator[str]:
    kind = "minimal-norm" if record.kind == "by-product" else record.kind
    if (kind, record.norm_name) != (entry.kind, entry.norm_name):
        yield f"{record.kind} in {record.norm_name}, and {entry.kind} in {entry.norm_name} in the manifest"
    if record.eps != "min" and record.eps not in entry.eps:
        yield f"the radius is none of the manifest, which has {shortened(list(entry.eps))}"


def _denied(criterion: Criterion, records: Sequence[Record]) -> Iterator[tuple[Record, str]]:
    """Records whose success is not that of their share of broken pixels, and what the share says."""
    num_valid = torch.tensor([record.num_valid for record in records])
    shares = torch.tensor([record.apsr for record in records], dtype=torch.float64).nan_to_num(0)
    broken, slack = (shares * num_valid).round().long(), (num_valid * _ROUNDING).long()
    said = torch.tensor([record.success for record in records])
    agrees = torch.stack([said == criterion.success(broken + change, num_valid) for change in (-slack, slack)]).any(0)
    wrong = torch.tensor([sum(record.fn) for record in records])
    more = broken - slack > wrong if isinstance(criterion, Untargeted) else torch.zeros_like(agrees)
    for row in (~agrees | more).nonzero()[:, 0].tolist():
        record, count = records[row], int(broken[row])
        if more[row]:
            yield record, f"{count} pixels are broken, and {int(wrong[row])} are predicted wrongly"
        else:
            yield record, f"success is {record.success} with {count} of {record.num_valid} pixels broken"
