"""The result of an evaluation, and how to recompute it from files."""

import os
import signal
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from segrobust.evaluation.checks import Check
from segrobust.evaluation.engine.runtime_estimate import Estimate
from segrobust.evaluation.numbers.summary import Summary
from segrobust.evaluation.reporting.csv_export import write_csv
from segrobust.evaluation.reporting.figures.curves import norm_curves, save_figure, score_curves
from segrobust.evaluation.reporting.figures.picture_faults import warned
from segrobust.evaluation.reporting.format import Escaped, html_text, in_units_of, plain_text
from segrobust.evaluation.reporting.html.report_page import can_write_html, write_html
from segrobust.evaluation.reporting.markdown import write_markdown
from segrobust.evaluation.reporting.run_files import read_run
from segrobust.evaluation.reporting.sensor_units import sensor_lines
from segrobust.evaluation.reporting.terminal import summary_tables
from segrobust.evaluation.run.completeness import count_missing
from segrobust.evaluation.run.failures import Fault
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import Record
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.run.strict_json import write_json
from segrobust.functional.norms import NormName
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import visible
from segrobust.value_range import ValueRange

_WIDTH = 160
_FAULTS_SHOWN = 8


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """The result of an evaluation; `print(report)` shows the tables, and so does a cell of a notebook.

    Attributes:
        records: one per (image, attack, radius).
        summary: all numbers, computed from the records.
        heading: what was evaluated, one line.
        directory: of the files; None if none were written.
        missing: number of records that the last command still lacks, without those that faults explain.
        faults: errors of images, which therefore lack a record.
        checks: results of the checks for false robustness; see `segrobust.evaluation.checks`.
        interrupted: the signal that stopped the work; None if none did.
        estimate: of a dry run.
        value_range: of the images, for lengths in the sensor's units; None if the data set does not say.
    """

    records: tuple[Record, ...]
    summary: Summary
    heading: str
    directory: RunDirectory | None = None
    missing: int = 0
    faults: tuple[Fault, ...] = ()
    checks: tuple[Check, ...] = ()
    interrupted: int | None = None
    estimate: Estimate | None = None
    value_range: ValueRange | None = None

    def __repr__(self) -> str:
        attacks = dict.fromkeys(name for entry in self.summary.any_attack for name in entry.attacks)
        where = "" if self.directory is None else f", {self.directory.path}"
        return visible(f"Report({self.summary.num_images} images, attacks: {', '.join(attacks) or 'none'}{where})")

    def __str__(self) -> str:
        return plain_text(self.renderable(), _WIDTH)

    def _repr_html_(self) -> str:
        """The tables, for notebooks."""
        return html_text(self.renderable(), _WIDTH)

    def print(self) -> None:
        """Prints the tables, in colour if the terminal has it; lines are longer than 80 characters."""
        console = Console(width=max(Console().width, _WIDTH), markup=False, emoji=False)
        console.print(Escaped(self.renderable()))

    @staticmethod
    def _files(directory: RunDirectory) -> list[tuple[str, Path]]:
        """The files to open that exist, each picture by its own path."""
        curves, panels = sorted(directory.pictures.glob("*.png")), sorted(directory.panels.glob("*.png"))
        files = [
            ("report", directory.page),
            *(("curve", path) for path in curves),
            *(("panel", path) for path in panels),
            ("summary", directory.summary),
            ("records", directory.records),
        ]
        return [(name, path) for name, path in files if path.exists()]

    def renderable(self) -> RenderableType:
        """The tables, for a console of `rich`."""
        if self.estimate is not None:
            return estimate_text(self.estimate)
        with in_units_of(self.value_range):
            tables = summary_tables(self.summary, self.checks)
        parts: list[RenderableType] = [Text(self.heading), Text(), tables]
        units = "\n".join(sensor_lines(self.summary, self.value_range))
        if units:
            parts.append(Text(f"\n{units}"))
        if self.interrupted is not None:
            parts.append(Text(f"stopped by {signal.Signals(self.interrupted).name}", style="yellow"))
        if self.missing:
            older = self.directory is not None and self.directory.summary.exists()
            parts.append(
                Text(
                    f"not finished: {self.missing} records are missing; run again to continue"
                    + ("; report and summary are those of the last finished evaluation" if older else "")
                )
            )
        if self.faults:
            parts.append(_fault_lines(self.faults))
        if self.directory is not None:
            parts.append(
                Text("\n" + "\n".join(f"{name:9}{visible(str(path))}" for name, path in self._files(self.directory)))
            )
        return Group(*parts)


def summarize_run(run_dir: str | os.PathLike[str]) -> Report:
    """Computes the report of a run from its files alone.

    Raises:
        ValueError: the directory holds no run, or damaged files.
    """
    run = read_run(RunDirectory(Path(run_dir)))
    return Report(
        records=run.records,
        summary=run.summary,
        heading=heading(run.manifest),
        directory=run.directory,
        missing=count_missing(run.manifest, run.records, run.faults),
        faults=run.faults,
        checks=run.checks,
        value_range=run.manifest.value_range,
    )


def is_complete(directory: RunDirectory) -> bool:
    """Whether no record is missing, apart from those that faults explain."""
    return summarize_run(directory.path).missing == 0


def write_report(directory: RunDirectory) -> Report:
    """Writes summaries, tables and curves of a run, and the page if the extra `report` is installed.

    Nothing is written while records are missing, because the files would be taken for final results.

    Raises:
        ValueError: as `summarize_run`.
        OSError: the directory cannot be written.
    """
    report = summarize_run(directory.path)
    if report.missing:
        return report
    checks = [asdict(check) for check in report.checks]
    faults = [fault.describe() for fault in report.faults]
    write_json(directory.summary, {**report.summary.to_dict(), "checks": checks, "faults": faults})
    for norm_name in sorted(_norms(report.records)):
        with warned(f"curves in {norm_name}"), in_units_of(report.value_range):
            _draw_curves(report, directory, norm_name)
    write_markdown(directory)
    write_csv(directory)
    if can_write_html():
        with warned("page report.html", DataFault):  # of files that others put into the run
            write_html(directory)
    return report


def _draw_curves(report: Report, directory: RunDirectory, norm_name: NormName) -> None:
    curves = {"asr": norm_curves(report.records, report.summary, norm_name)}
    if any(isinstance(record.eps, float) and record.norm_name == norm_name for record in report.records):
        curves["scores"] = score_curves(report.summary, norm_name)
    for name, figure in curves.items():
        save_figure(figure, directory.pictures / f"{name}_{norm_name}.png", root=directory.path)


def _fault_lines(faults: Sequence[Fault]) -> Text:
    shown = "\n".join(f"  {fault.describe()}" for fault in faults[:_FAULTS_SHOWN])
    more = f"\n  and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
    return Text(
        f"errors occurred for {len({fault.sample_id for fault in faults})} images, which lack these records; "
        f"tracebacks are in faults/, and the same command retries them:\n{shown}{more}",
        style="red",
    )


def heading(manifest: Manifest) -> str:
    """What is evaluated, in one line."""
    preset = f" | preset {manifest.preset}" if manifest.preset else ""
    return visible(
        f"{manifest.data_description} | {len(manifest.samples)} evaluated | "
        f"{manifest.network_description}, weights {manifest.weights[:8]} | "
        f"{manifest.precision} | {manifest.criterion} | seed {manifest.seed}{preset}"
    )


def estimate_text(estimate: Estimate) -> Text:
    """The result of a dry run."""
    text = Text(
        f"one forward pass takes {estimate.forward_seconds:.3g} s/image, one backward pass "
        f"{estimate.backward_seconds:.3g} s/image\n"
    )
    for name, seconds in estimate.seconds_by_job:
        text.append(f"  {name}: at most {duration(seconds)}\n")
    return text.append(f"the whole evaluation, in this process: at most {duration(estimate.seconds)}")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds; "unknown" for nan."""
    if seconds != seconds:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _norms(records: Collection[Record]) -> set[NormName]:
    return {record.norm_name for record in records if record.norm_name is not None and not record.flags}
