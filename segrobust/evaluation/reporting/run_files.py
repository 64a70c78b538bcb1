"""The content of the files of a run, from which pages and tables are made."""

from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from segrobust.evaluation.checks import Check, Status, check_records, read_checks, worst_status
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.numbers.summary import Summary
from segrobust.evaluation.reporting.figures.panels import plain_label_space
from segrobust.evaluation.reporting.selection import Selection, find_selection
from segrobust.evaluation.run.consistency import require_consistent
from segrobust.evaluation.run.failures import Fault, read_faults
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import Record, read_records
from segrobust.evaluation.run.run_directory import Provenance, RunDirectory
from segrobust.label_space import LabelSpace


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The content of a run directory.

    Attributes:
        directory: of the run.
        manifest: identifies what was evaluated.
        records: of the samples of the manifest.
        summary: all numbers, computed from the records.
        faults: errors of images.
        checks: results of the checks for false robustness.
        provenance: one entry per command.
        selection: images that were also used to select the checkpoint; None if there are none.
    """

    directory: RunDirectory
    manifest: Manifest
    records: tuple[Record, ...]
    summary: Summary
    faults: tuple[Fault, ...]
    checks: tuple[Check, ...]
    provenance: tuple[Provenance, ...]
    selection: Selection | None

    @cached_property
    def label_space(self) -> LabelSpace:
        """Names and colours of the classes; numbered classes if the data set has no names."""
        count = max((len(record.tp) for record in self.records), default=1)
        return self.manifest.label_space or plain_label_space(count, self.manifest.ignore_index)

    def status_of(self, *digests: str) -> Status:
        """The worst status of the checks that concern these attacks; of all checks if none are given."""
        return status_of(self.checks, *digests)


def read_run(directory: RunDirectory) -> RunFiles:
    """Reads a run.

    Raises:
        ValueError: the directory holds no run, or damaged files.
    """
    manifest = read_manifest(directory)
    wanted, every = set(manifest.samples), read_records(directory.path)
    require_consistent(manifest, every, directory.path)
    records = tuple(record for record in every if record.sample_id in wanted)
    faults = read_faults(directory.path, {record.key for record in records})
    return RunFiles(
        directory=directory,
        manifest=manifest,
        records=records,
        summary=summarize(records, asr_only=manifest.asr_only),
        faults=tuple(fault for fault in faults if fault.sample_id in wanted),
        checks=_checks(directory, manifest, records),
        provenance=directory.read_provenance(),
        selection=find_selection(directory.path, records),
    )


def read_manifest(directory: RunDirectory) -> Manifest:
    """Reads what is fixed in a run.

    Raises:
        ValueError: the directory holds no run, its manifest is damaged, or something in it is a link.
    """
    directory.require_plain()
    if not directory.manifest.is_file():
        runs = sorted(path.parent.name for path in islice(directory.path.glob("evaluation-*/manifest.json"), 100))
        fix = f"name the folder of a run in it, such as {directory.path / runs[0]}" if runs else "evaluate makes it"
        raise ValueError(f"{directory.path} holds no run: there is no {directory.manifest.name}; {fix}")
    return Manifest.read(directory.manifest)


def status_of(checks: tuple[Check, ...], *digests: str) -> Status:
    """The worst status of the checks that concern these attacks; of all checks if none are given."""
    return worst_status(check for check in checks if not digests or not check.attacks or {*digests} & {*check.attacks})


def _checks(directory: RunDirectory, manifest: Manifest, records: tuple[Record, ...]) -> tuple[Check, ...]:
    """The checks on disk and those of the records; none if checks were switched off."""
    files = [path for path in (directory.network_checks, directory.attack_checks(manifest.planned)) if path.is_file()]
    stored = tuple(check for path in files for check in read_checks(path, root=directory.path).checks)
    if not stored:
        return ()
    return (*stored, *check_records(records, {entry.digest: entry.attack for entry in manifest.attacks}))
