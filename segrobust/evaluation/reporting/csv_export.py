"""Numbers for spreadsheets and plotting programs."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from segrobust.evaluation.numbers.smallest_norm import smallest_norms
from segrobust.evaluation.numbers.summary import Scores, Summary
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.reporting.score_lines import score_lines
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.run.strict_json import replace_file

Row = Sequence[object]

_SCORES: Final = (
    "miou",
    "miou_image",
    "accuracy",
    "mean_class_accuracy",
    "mean_apsr",
    "mean_clean_apsr",
    "mean_class_apsr",
    "asr",
    "boundary_accuracy",
    "interior_accuracy",
)
_NORMS: Final = (
    "sample_id",
    "sample_name",
    "sequence",
    "attack",
    "digest",
    "norm_name",
    "norm",
    "success",
    "apsr",
    "clean_apsr",
    "first_success",
    "num_forwards",
    "num_backwards",
    "seconds",
)


def write_csv(directory: RunDirectory) -> tuple[Path, ...]:
    """Writes `tables/scores.csv`, `tables/norms.csv` and `tables/classes.csv`; shares in [0, 1], norms in image units.

    Scores: one row per attack, radius and scope. Norms: one row per image and minimal-norm attack, failures as `inf`.
    Classes: one row per class, attack, radius and scope; a class absent from the ground truth has `nan`.

    Returns:
        The files.

    Raises:
        ValueError: the directory holds no run, or damaged files.
        OSError: the directory cannot be written.
    """
    run = read_run(directory)
    folder = directory.path / "tables"
    folder.mkdir(exist_ok=True)
    tables = {"scores": _score_rows(run.summary), "norms": _norm_rows(run), "classes": _class_rows(run)}
    return tuple(_write(folder / f"{name}.csv", rows) for name, rows in tables.items())


def _score_rows(summary: Summary) -> Iterable[Row]:
    head = ("scope", "attack", "norm_name", "eps", "num_images", *_SCORES)
    yield (*head, "miou_low", "miou_high", "accuracy_low", "accuracy_high", "bound")
    for scope, attack, norm_name, scores in _all_scores(summary):
        values = [getattr(scores, name) for name in _SCORES]
        bands = (scores.miou_band.low, scores.miou_band.high, scores.accuracy_band.low, scores.accuracy_band.high)
        yield scope, attack, norm_name, scores.eps, scores.num_images, *values, *bands, scores.bound
    for entry in summary.any_attack:
        for eps, asr in zip(entry.eps, entry.asr, strict=True):
            values = [asr if name == "asr" else "" for name in _SCORES]
            yield "any attack", "", entry.norm_name, eps, entry.num_images, *values, "", "", "", "", entry.bound


def _norm_rows(run: RunFiles) -> Iterable[Row]:
    yield (*_NORMS, "flags")
    records = [record for record in run.records if record.kind == "minimal-norm"]
    for entry in run.summary.smallest_norm:
        records += [replace(record, attack=entry.label) for record in smallest_norms(run.records, entry.digests)]
    for record in records:
        yield (*(getattr(record, name) for name in _NORMS), " ".join(record.flags))


def _class_rows(run: RunFiles) -> Iterable[Row]:
    yield "scope", "attack", "norm_name", "eps", "class", "name", "iou", "bound"
    for scope, attack, norm_name, scores in _all_scores(run.summary):
        for index, (name, iou) in enumerate(zip(run.label_space.names, scores.iou, strict=True)):
            yield scope, attack, norm_name, scores.eps, index, name, iou, scores.bound


def _all_scores(summary: Summary) -> Iterable[tuple[str, str, str, Scores]]:
    if summary.clean is not None:
        yield "clean", "", "", summary.clean
    for line in score_lines(summary):
        for scores in line.scores:
            yield line.scope, line.attack, line.norm_name, scores


def _write(path: Path, rows: Iterable[Row]) -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    replace_file(path, text.getvalue().encode())
    return path
