"""`summary.md`: a summary to paste into an issue or a paper."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from segrobust.evaluation.numbers.metrics import METRICS, in_place
from segrobust.evaluation.numbers.summary import BOUND_ANY, SmallestNormSummary, Summary
from segrobust.evaluation.reporting.format import (
    ENVELOPE_HEAD,
    ENVELOPE_NOTE,
    cost_texts,
    envelope_rows,
    in_units_of,
    norm_cells,
    norms_note,
    percent,
    radius_text,
    value_text,
)
from segrobust.evaluation.reporting.headline import headline
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.reporting.score_lines import norm_lines, score_grids
from segrobust.evaluation.reporting.sensor_units import sensor_lines
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.untrusted.printable import for_markdown, markdown_code
from segrobust.untrusted.regular_files import replace_file


def write_markdown(directory: RunDirectory) -> Path:
    """Writes `summary.md`.

    Raises:
        ValueError: the directory holds no run, or damaged files.
        OSError: the directory cannot be written.
    """
    path = directory.path / "summary.md"
    replace_file(path, summary_text(read_run(directory)).encode() + b"\n")
    return path


def summary_text(run: RunFiles) -> str:
    """Headline, tables with their kinds of bounds, checks, and provenance."""
    with in_units_of(run.manifest.value_range):
        parts = [
            _opening(run),
            _clean(run.summary),
            *_norms(run.summary),
            *_scores(run.summary),
            *_any(run.summary),
            *_units(run),
        ]
    return "\n\n".join((*parts, *_checks(run), _source(run)))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with numbers aligned to the right. Cells are escaped."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *([for_markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _opening(run: RunFiles) -> str:
    sentences = [
        f"**{for_markdown(entry.text)}**: {entry.bound}." for entry in headline(run.summary, run.manifest.value_range)
    ]
    warning = [] if run.selection is None else [f"**Warning**: {for_markdown(run.selection.warning)}"]
    if run.status_of() == "fail":
        warning.append("**Unreliable**: a check failed. Do not trust the numbers that it names, see below.")
    return "\n\n".join((f"### Robustness: {for_markdown(run.manifest.network_description)}", *sentences, *warning))


def _units(run: RunFiles) -> Iterable[str]:
    lines = [f"- {for_markdown(line)}" for line in sensor_lines(run.summary, run.manifest.value_range)]
    return ["\n".join(("In the units of the sensor:", "", *lines))] if lines else []


def _clean(summary: Summary) -> str:
    if summary.clean is None:
        return "No image with a valid pixel has been evaluated."
    clean = summary.clean
    values = (f"{metric.label} {value_text(metric, clean)} %" for metric in in_place(METRICS, "clean"))
    return f"Clean, {clean.num_images} images: {', '.join(values)}."


def _norms(summary: Summary) -> Iterable[str]:
    for norm_name, entries in norm_lines(summary).items():
        radii = [f"ASR at {radius_text(eps, norm_name)}" for eps in entries[0].eps]
        head = [f"minimal norm ({norm_name})", "images", "ASR, %", "median (IQR)", *radii, "passes"]
        yield markdown_table(head, ([*norm_cells(entry), cost_texts(entry.cost)[0]] for entry in entries))
        yield f"*{for_markdown(norms_note(entries))}*"
        for entry in entries:
            if isinstance(entry, SmallestNormSummary):
                yield markdown_table(
                    (f"against the {entry.label} ({norm_name})", *ENVELOPE_HEAD[1:]), envelope_rows(entry)
                )
                yield f"*{for_markdown(ENVELOPE_NOTE)}*"


def _scores(summary: Summary) -> Iterable[str]:
    """Per norm a table of the headline metrics by radius."""
    labels = " / ".join(metric.label for metric in in_place(METRICS, "headline"))
    for grid in score_grids(summary):
        radii = (radius_text(eps, grid.norm_name) for eps in grid.radii)
        rows = (
            [line.label, str(line.num_images), *(line.text(eps, " / ") for eps in grid.radii)] for line in grid.lines
        )
        yield markdown_table([f"{labels}, % ({grid.norm_name})", "images", *radii], rows)
        yield "\n".join(f"*{bound}*  " for bound in grid.bounds)


def _any(summary: Summary) -> Iterable[str]:
    for entry in summary.any_attack:
        pairs = zip(entry.eps, entry.asr, strict=True)
        rates = ", ".join(f"{percent(asr)} % at {radius_text(eps, entry.norm_name)}" for eps, asr in pairs)
        if rates:
            yield f"Broken by any attack ({entry.norm_name}, {entry.num_images} images): {rates}. *{BOUND_ANY}*"


def _checks(run: RunFiles) -> Iterable[str]:
    if not run.checks:
        yield "Checks against false robustness: not checked."
        return
    bad = [check for check in run.checks if check.status != "ok"]
    passed = sum(check.status == "ok" for check in run.checks)
    lines = [f"- **{check.status}** {for_markdown(check.name)}: {for_markdown(check.text)}" for check in bad]
    yield "\n".join((f"Checks against false robustness: {passed} of {len(run.checks)} ok.", *lines))


def _source(run: RunFiles) -> str:
    manifest = run.manifest
    last = run.provenance[-1] if run.provenance else None
    versions = [] if last is None else [version for version in last.versions if "not installed" not in version]
    device = "" if last is None else last.device
    parts = [
        manifest.data_description,
        f"{len(manifest.samples)} images, the first {manifest.image_size}",
        f"{manifest.network_description}, weights {manifest.weights[:8]}",
        manifest.precision,
        manifest.criterion,
        f"seed {manifest.seed}",
        f"preset {manifest.preset}" if manifest.preset else "",
        device,
        *versions,
    ]
    faults = f" {len(run.faults)} measurements raised an error." if run.faults else ""
    left_out = f" {len(run.summary.flagged)} images without a valid pixel are left out." if run.summary.flagged else ""
    attacks = [f"- {for_markdown(entry.name)}: {markdown_code(entry.attack)}" for entry in manifest.attacks]
    return "\n".join(
        (
            f"Made by segrobust: {'; '.join(for_markdown(part) for part in parts if part)}.{faults}{left_out}",
            "",
            *attacks,
        )
    )
