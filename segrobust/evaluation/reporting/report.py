"""What an evaluation hands back, and how it is made again from files."""

import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.text import Text

from segrobust.evaluation.estimate import Estimate
from segrobust.evaluation.manifest import Manifest
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.numbers.summary import Summary
from segrobust.evaluation.records import CLEAN, Key, Record, read_records
from segrobust.evaluation.reporting.pictures import norm_curves, save_figure, score_curves
from segrobust.evaluation.reporting.tables import summary_tables
from segrobust.evaluation.run_directory import RunDirectory
from segrobust.evaluation.strict_json import write_json
from segrobust.functional.norms import NormName

_WIDTH = 160


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of an evaluation; `print(report)` shows the tables.

    Attributes:
        records: one per (image, attack, radius).
        summary: all numbers made of them.
        heading: what was evaluated, one line.
        directory: where the files are; None if nothing was kept.
        missing: records that the last command on these files wants and does not have yet.
        estimate: of a dry run.
    """

    records: tuple[Record, ...]
    summary: Summary
    heading: str
    directory: RunDirectory | None = None
    missing: int = 0
    estimate: Estimate | None = None

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
        console.print(self.renderable())
        assert isinstance(console.file, io.StringIO)
        return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())

    def print(self) -> None:
        """Prints the tables to the terminal, in colour where it has any; lines are longer than 80 characters."""
        Console(width=max(Console().width, _WIDTH)).print(self.renderable())

    @staticmethod
    def _files(directory: RunDirectory) -> list[tuple[str, Path]]:
        """What a person may want to open, each picture by its own path."""
        curves, panels = sorted(directory.pictures.glob("*.png")), sorted(directory.panels.glob("*.png"))
        return [
            *(("curve", path) for path in curves),
            *(("panel", path) for path in panels),
            ("summary", directory.summary),
            ("records", directory.records),
        ]

    def renderable(self) -> RenderableType:
        """The tables, for a console of `rich`."""
        if self.estimate is not None:
            return estimate_text(self.estimate)
        parts: list[RenderableType] = [Text(self.heading), Text(), summary_tables(self.summary)]
        if self.missing:
            parts.append(Text(f"not finished: {self.missing} records are missing; run again to continue"))
        if self.directory is not None:
            parts.append(Text("\n" + "\n".join(f"{name:9}{path}" for name, path in self._files(self.directory))))
        return Group(*parts)


def summarize_run(run_dir: str | os.PathLike[str]) -> Report:
    """Makes the report of a run from its files alone, and writes `summary.json` and the curves if it is finished.

    Processes that share a run need not wait for each other: whoever finishes last finds all records.

    Raises:
        ValueError: the directory holds no run, or damaged records.
    """
    directory = RunDirectory(Path(run_dir))
    if not directory.manifest.is_file():
        raise ValueError(f"{run_dir} holds no run: there is no {directory.manifest.name}; it is made by evaluate")
    manifest = Manifest.read(directory.manifest)
    wanted = set(manifest.samples)
    records = tuple(record for record in read_records(directory.path) if record.sample_id in wanted)
    report = Report(
        records=records,
        summary=summarize(records),
        heading=heading(manifest),
        directory=directory,
        missing=len(expected_keys(manifest) - {record.key for record in records}),
    )
    if not report.missing:
        _write(report, directory)
    return report


def expected_keys(manifest: Manifest) -> set[Key]:
    """The keys of all records that the last command on a run wants."""
    keys: set[Key] = set()
    for sample_id in manifest.samples:
        keys.add((sample_id, CLEAN, None))
        for entry in manifest.planned:
            keys.update((sample_id, entry.digest, eps) for eps in entry.eps)
            if entry.kind == "minimal-norm":
                keys.add((sample_id, entry.digest, "min"))
    return keys


def heading(manifest: Manifest) -> str:
    """What is evaluated, in one line."""
    return (
        f"{manifest.data_description} | {len(manifest.samples)} evaluated | "
        f"{manifest.network_description}, weights {manifest.weights[:8]} | "
        f"{manifest.precision} | {manifest.criterion} | seed {manifest.seed}"
    )


def estimate_text(estimate: Estimate) -> Text:
    """The outcome of a dry run."""
    text = Text(
        f"one forward pass takes {estimate.forward_seconds:.3g} s/image, one backward pass "
        f"{estimate.backward_seconds:.3g} s/image\n"
    )
    for name, seconds in estimate.seconds_by_job:
        text.append(f"  {name}: at most {duration(seconds)}\n")
    return text.append(f"whole evaluation from nothing, on this process: at most {duration(estimate.seconds)}")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds; "unknown" for nan."""
    if seconds != seconds:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _write(report: Report, directory: RunDirectory) -> None:
    write_json(directory.summary, report.summary.to_dict())
    directory.pictures.mkdir(exist_ok=True)
    for norm_name in sorted(_norms(report.records)):
        save_figure(norm_curves(report.records, report.summary, norm_name), directory.pictures / f"asr_{norm_name}.png")
        if any(isinstance(record.eps, float) and record.norm_name == norm_name for record in report.records):
            save_figure(score_curves(report.summary, norm_name), directory.pictures / f"scores_{norm_name}.png")


def _norms(records: Collection[Record]) -> set[NormName]:
    return {record.norm_name for record in records if record.norm_name is not None and not record.flags}
