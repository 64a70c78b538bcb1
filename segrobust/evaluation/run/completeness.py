"""The records that a run still lacks."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from segrobust.evaluation.run.failures import Fault
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import CLEAN, Key, Record


def count_missing(manifest: Manifest, records: Sequence[Record], faults: Iterable[Fault]) -> int:
    """The number of records that the last command on a run still lacks, without those that faults explain.

    Args:
        manifest: of the run.
        records: so far.
        faults: of keys without a record.
    """
    return count_unexplained(expected_keys(manifest, records) - {record.key for record in records}, faults)


def count_unexplained(lacking: Iterable[Key], faults: Iterable[Fault]) -> int:
    """The number of keys without a record that no fault explains.

    Args:
        lacking: keys without a record.
        faults: of keys without a record.
    """
    known: set[Key] = set()
    spoilt: set[int] = set()
    for fault in faults:
        known.add(fault.key)
        if fault.stage != "attack":
            spoilt.add(fault.sample_id)

    def is_explained(key: Key) -> bool:
        sample_id, digest, _ = key
        return (
            sample_id in spoilt or key in known or (sample_id, digest, "min") in known
        )  # by-products need this record

    return sum(not is_explained(key) for key in lacking)


def expected_keys(manifest: Manifest, records: Iterable[Record]) -> set[Key]:
    """The keys of all records that the last command on a run asks for.

    Args:
        manifest: of the run.
        records: so far; with `asr_only`, a broken image needs no more attacks at that radius.
    """
    broken: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        if record.success:
            broken[record.sample_id].append(record)
    keys: set[Key] = set()
    for sample_id in manifest.samples:
        keys.add((sample_id, CLEAN, None))
        for entry in manifest.planned:
            if entry.kind == "minimal-norm":
                keys.add((sample_id, entry.digest, "min"))
            for eps in entry.eps:
                may_skip = manifest.asr_only and entry.kind == "fixed-budget"
                if not (may_skip and any(r.breaks(entry.norm_name, eps) for r in broken[sample_id])):
                    keys.add((sample_id, entry.digest, eps))
    return keys
