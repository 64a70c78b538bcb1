"""`report.html`: a single file that opens without a network connection."""

import json
from collections.abc import Iterable
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from segrobust.evaluation.numbers.summary import Summary
from segrobust.evaluation.reporting.format import in_units_of, norm_source, norm_text, percent, radius_text
from segrobust.evaluation.reporting.headline import NORM_LABELS, headline
from segrobust.evaluation.reporting.html.page import CLASS_PLOT, Banner, Page, Plot, Stat
from segrobust.evaluation.reporting.html.page_panels import choose_panels
from segrobust.evaluation.reporting.html.page_tables import (
    any_attack_tables,
    check_table,
    class_tables,
    envelope_tables,
    fault_table,
    metric_tables,
    norm_tables,
    score_tables,
    where_tables,
)
from segrobust.evaluation.reporting.html.page_text import METRIC_TEXTS, commands, facts, premise
from segrobust.evaluation.reporting.html.plots import report_series
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.reporting.score_lines import strongest, strongest_norms
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.run.strict_json import portable
from segrobust.untrusted.printable import for_html
from segrobust.untrusted.regular_files import replace_file

SIZE_CAP: Final = 8_000_000
"""Largest size of a report in bytes; panels beyond it are left out, and the page gives their number."""

_RESERVED: Final = 400_000
"""Bytes reserved for the page without pictures and plot library."""

_FEW_IMAGES: Final = 16
"""Number of images below which a page says that they are few."""

_MISSING: Final = 'the page needs jinja2 and plotly: pip install "segrobust[report]"'


def can_write_html() -> bool:
    """Whether the extra `report` is installed."""
    return all(find_spec(name) is not None for name in ("jinja2", "plotly"))


def write_html(directory: RunDirectory) -> Path:
    """Writes `report.html`, a function of the files of the run alone.

    Raises:
        ValueError: the directory holds no run, or damaged files; or the extra `report` is not installed.
        OSError: the directory cannot be written.
    """
    library = plot_library()
    page = build_page(read_run(directory), SIZE_CAP - _RESERVED - len(library.encode()))
    replace_file(directory.page, render(page, "report.html.j2", library))
    return directory.page


def build_page(run: RunFiles, room: int) -> Page:
    """The content of the page of a run.

    Args:
        run: the content of its files.
        room: bytes for pictures.
    """
    with in_units_of(run.manifest.value_range):
        return _page(run, room)


def _page(run: RunFiles, room: int) -> Page:
    summary = run.summary
    panels, left_out = choose_panels(run, room)
    return Page(
        title="Robustness report",
        subtitle=f"{run.manifest.network_description} on {run.manifest.data_description}",
        premise=premise(run.manifest.criterion),
        sentences=headline(summary, run.manifest.value_range),
        stats=tuple(_stats(run)),
        warnings=tuple(_warnings(run)),
        plots=tuple(_plots(summary)),
        class_plots=_class_plots(summary),
        tables={
            "attacks": (
                *norm_tables(run),
                *envelope_tables(summary),
                *score_tables(run),
                *any_attack_tables(summary),
                *metric_tables(run),
            ),
            "classes": tuple(class_tables(run)),
            "where": tuple(where_tables(run)),
            "checks": tuple(check_table(run)),
            "faults": tuple(fault_table(run)),
        },
        panels=panels,
        panels_note=_panels_note(left_out),
        facts=tuple(facts(run)),
        commands=commands(run),
        attacks=tuple((entry.name, entry.attack) for entry in run.manifest.attacks),
        data=report_series(summary, run.records, run.label_space.names),
    )


def plot_library() -> str:
    """The source of plotly.js.

    Raises:
        ValueError: the extra `report` is not installed.
    """
    try:
        plotly = import_module("plotly.offline")
    except ImportError as error:
        raise ValueError(_MISSING) from error
    return str(plotly.get_plotlyjs())


def render(page: Page, template: str, library: str) -> bytes:
    """A page as a file.

    Raises:
        ValueError: the extra `report` is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ValueError(_MISSING) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("segrobust.evaluation.reporting.html"),
        autoescape=True,
        finalize=for_html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = resources.files("segrobust.evaluation.reporting.html") / "templates"
    text = environment.get_template(template).render(
        page=page,
        metric_texts=METRIC_TEXTS.items(),
        style=(folder / "page.css").read_text("utf-8"),
        scripts=[library, *((folder / name).read_text("utf-8") for name in ("plots.js", "page.js"))],
        data=script_json(page.data),
    )
    return text.encode()


def script_json(value: object) -> str:
    """Strict JSON that may stand in a script element: nothing in it ends the element or opens a comment."""
    text = json.dumps(_shown(portable(value)), allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _shown(value: object) -> object:
    """The value with every text in it as a template prints it."""
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    return [*map(_shown, value)] if isinstance(value, list) else for_html(value)


def _plots(summary: Summary) -> Iterable[Plot]:
    if strongest(summary):
        yield Plot(
            key="scores",
            title="Scores under attack",
            note="Upper bounds: a stronger attack can only lower them. Dotted: by-products of minimal-norm attacks, "
            "weak upper bounds. Band: 95 % bootstrap interval of mIoU^D and aAcc; only that of the worst case while "
            "the worst case is shown.",
        )
    if summary.minimal_norm:
        yield Plot(
            key="norms",
            title="Share of images broken within eps",
            note="Distribution of minimal norms: a lower bound on the success rate at every eps. A curve that ends "
            "below 100 % belongs to an attack that failed on the remaining images. Thick: the smallest norm that any "
            "attack finds for an image. Markers: fixed-budget attacks.",
        )


def _class_plots(summary: Summary) -> tuple[Plot, ...]:
    return () if summary.clean is None or not strongest(summary) else (CLASS_PLOT,)


def _stats(run: RunFiles) -> Iterable[Stat]:
    summary = run.summary
    if summary.clean is not None:
        clean = summary.clean
        note = f"mIoU^D; aAcc {percent(clean.accuracy)} %; {clean.num_images} images"
        yield Stat(label="clean mIoU", value=f"{percent(clean.miou)} %", note=note)
    for found in strongest(summary)[:1]:
        scores, line = found.headline
        interval = scores.intervals["miou"]
        band = f"{percent(interval.low)} to {percent(interval.high)} %"
        yield Stat(
            label=f"mIoU under attack at {radius_text(scores.eps, line.norm_name)}",
            value=f"{percent(scores.miou)} %",
            note=f"mIoU^D, 95 % band {band}; aAcc {percent(scores.accuracy)} %",
        )
    for entry in strongest_norms(summary):
        low, high = (norm_text(entry[key], entry.norm_name) for key in ("lower_quartile", "upper_quartile"))
        yield Stat(
            label=f"median minimal norm, {NORM_LABELS[entry.norm_name]}",
            value=norm_text(entry["median"], entry.norm_name),
            note=f"IQR {low} to {high}; {percent(entry['asr'])} % of {entry.num_images} images are broken "
            f"({norm_source(entry)})",
        )
    passed = sum(check.status == "ok" for check in run.checks)
    if run.checks:
        notes = {"ok": "all checks passed", "warn": "see below", "fail": "numbers are unreliable, see below"}
        status = run.status_of()
        yield Stat(label="checks", value=f"{passed} of {len(run.checks)} ok", note=notes[status], status=status)
    else:
        yield Stat(label="checks", value="none", note="not checked", status="warn")


def _warnings(run: RunFiles) -> Iterable[Banner]:
    failed = [f"{check.name}: {check.detail}" for check in run.checks if check.status == "fail"]
    if failed:
        text = "Some checks failed. Do not trust the numbers that they concern."
        yield Banner(status="fail", title="Unreliable", text=text, items=tuple(failed))
    evaluated = 0 if run.summary.clean is None else run.summary.clean.num_images
    if 0 < evaluated < _FEW_IMAGES:
        text = f"Only {evaluated} images were evaluated. With other images, the numbers may differ by much."
        yield Banner(status="warn", title="Few images", text=text)
    if run.selection is not None:
        yield Banner(status="warn", title="Optimistic", text=run.selection.warning)
    if run.faults:
        count = len({fault.sample_id for fault in run.faults})
        text = f"Errors occurred for {count} images, which therefore lack results. They are listed under Checks."
        yield Banner(status="warn", title="Incomplete", text=text)


def _panels_note(left_out: int) -> str:
    if not left_out:
        return ""
    return (
        f"{left_out} further panels are left out to keep this page below {SIZE_CAP // 10**6} MB; "
        "they are in the folder panels/ of the run."
    )
