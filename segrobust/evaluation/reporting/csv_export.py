"""Numbers for spreadsheets and plotting programs."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from segrobust.evaluation.numbers.metrics import METRICS, written
from segrobust.evaluation.numbers.smallest_norm import smallest_norms
from segrobust.evaluation.numbers.summary import Scores, Summary
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.reporting.score_lines import score_lines
from segrobust.evaluation.reporting.sensor_units import in_units
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.untrusted.printable import for_csv
from segrobust.untrusted.regular_files import replace_file

Row = Sequence[object]

_INTERVALS: Final = tuple(metric.key for metric in METRICS if metric.interval is not None)
_NORMS: Final = (
    *("sample_id", "sample_name", "sequence", "attack", "digest", "norm_name", "norm", "success"),
    *("apsr", "clean_apsr", "first_success", "num_forwards", "num_backwards", "seconds"),
)
_RECORD_COLUMNS: Final = {
    "norm": ("norm", "norm of the perturbation, image units, shares of the range; inf where the attack failed"),
    "apsr": ("%", "share of valid pixels that are broken"),
    "clean_apsr": ("%", "the same share without attack"),
}
"""Unit and explanation of each number per image."""
_IN_UNITS: Final = "in the units of the sensor, `157 of 10000`, for l_inf; empty where the data state no range"


def write_csv(directory: RunDirectory) -> tuple[Path, ...]:
    """Writes `scores.csv`, `norms.csv`, `classes.csv` and `columns.csv` to the folder `tables`.

    Scores: one row per attack, radius and scope. Norms: one row per image and minimal-norm attack, failures as `inf`.
    Classes: one row per class, attack, radius and scope; a class absent from the ground truth has `nan`. Columns: unit
    and explanation of every column of numbers; shares are in percent, norms in image units.

    Returns:
        The files.

    Raises:
        ValueError: the directory holds no run, or damaged files.
        OSError: the directory cannot be written.
    """
    run = read_run(directory)
    tables = {
        "scores": _score_rows(run),
        "norms": _norm_rows(run),
        "classes": _class_rows(run),
        "columns": _column_rows(),
    }
    return tuple(_write(directory, name, rows) for name, rows in tables.items())


def _score_rows(run: RunFiles) -> Iterable[Row]:
    bands = (f"{key}_{end}" for key in _INTERVALS for end in ("low", "high"))
    names = (*(metric.key for metric in METRICS), *bands)
    yield "scope", "attack", "norm_name", "eps", "eps_in_units", "num_images", *names, "bound"
    for scope, attack, norm_name, scores in _all_scores(run.summary):
        values = [written(metric.unit, scores[metric.key]) for metric in METRICS]
        ends = (end for key in _INTERVALS for end in (scores.intervals[key].low, scores.intervals[key].high))
        shares = (written("%", end) for end in ends)
        units = _in_units(run, scores.eps, norm_name)
        yield scope, attack, norm_name, scores.eps, units, scores.num_images, *values, *shares, scores.bound
    for entry in run.summary.any_attack:
        for eps, asr in zip(entry.eps, entry.asr, strict=True):
            rates = [written(metric.unit, asr) if metric.key == "asr" else "" for metric in METRICS]
            empty = [""] * 2 * len(_INTERVALS)
            units = _in_units(run, eps, entry.norm_name)
            yield "any attack", "", entry.norm_name, eps, units, entry.num_images, *rates, *empty, entry.bound


def _in_units(run: RunFiles, length: float, norm_name: str | None) -> str:
    return in_units(length, "linf", run.manifest.value_range) if norm_name == "linf" else ""


def _column_rows() -> Iterable[Row]:
    yield "table", "column", "unit", "meaning"
    for table in ("scores", "classes"):
        yield table, "eps_in_units", "sensor", f"radius {_IN_UNITS}"
    for metric in METRICS:
        yield "scores", metric.key, metric.unit, metric.explanation
        for end in ("low", "high") if metric.interval is not None else ():
            yield "scores", f"{metric.key}_{end}", metric.unit, f"{end} end of the 95 % bootstrap interval"
    for column, (unit, meaning) in _RECORD_COLUMNS.items():
        yield "norms", column, unit, meaning
    yield "norms", "norm_in_units", "sensor", f"norm {_IN_UNITS}"
    yield "classes", "iou", "%", "IoU of the class; nan where it is absent from the ground truth"


def _norm_rows(run: RunFiles) -> Iterable[Row]:
    yield (*_NORMS, "flags", "norm_in_units")
    records = [record for record in run.records if record.kind == "minimal-norm"]
    for entry in run.summary.smallest_norm:
        records += [replace(record, attack=entry.label) for record in smallest_norms(run.records, entry.digests)]
    for record in records:
        values = {name: getattr(record, name) for name in _NORMS}
        values |= {name: written(unit, values[name]) for name, (unit, _) in _RECORD_COLUMNS.items()}
        yield (*values.values(), " ".join(record.flags), _in_units(run, record.norm, record.norm_name))


def _class_rows(run: RunFiles) -> Iterable[Row]:
    yield "scope", "attack", "norm_name", "eps", "eps_in_units", "class", "name", "iou", "bound"
    for scope, attack, norm_name, scores in _all_scores(run.summary):
        for index, (name, iou) in enumerate(zip(run.label_space.names, scores.iou, strict=True)):
            units = _in_units(run, scores.eps, norm_name)
            yield scope, attack, norm_name, scores.eps, units, index, name, written("%", iou), scores.bound


def _all_scores(summary: Summary) -> Iterable[tuple[str, str, str, Scores]]:
    if summary.clean is not None:
        yield "clean", "", "", summary.clean
    for line in score_lines(summary):
        for scores in line.scores:
            yield line.scope, line.attack, line.norm_name, scores


def _write(directory: RunDirectory, name: str, rows: Iterable[Row]) -> Path:
    path = directory.path / "tables" / f"{name}.csv"
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([for_csv(cell) for cell in row] for row in rows)
    replace_file(path, text.getvalue().encode(), root=directory.path)
    return path
