"""The content of a comparison page."""

from collections.abc import Iterable, Sequence

from segrobust.evaluation.reporting.comparison.compare_tables import (
    check_table,
    class_tables,
    fact_table,
    headline_table,
    ratio_table,
)
from segrobust.evaluation.reporting.comparison.compared_runs import ComparedRun, same_classes, shared_radius
from segrobust.evaluation.reporting.format import in_units_of, percent, radius_text
from segrobust.evaluation.reporting.headline import Sentence
from segrobust.evaluation.reporting.html.page import CLASS_PLOT, Banner, Page, Plot, Table
from segrobust.evaluation.reporting.html.plots import DASHES, MENU, Style, curve, norm_axis, norms_of, steps
from segrobust.evaluation.reporting.run_files import RunFiles
from segrobust.evaluation.reporting.score_lines import norm_lines, score_lines, strongest
from segrobust.functional.norms import NormName, norm_order


def build_comparison(
    compared_runs: Sequence[ComparedRun], differences: Sequence[str], nearness: Sequence[Table] = ()
) -> Page:
    """The page.

    Args:
        compared_runs: at least two; ratios are to the first.
        differences: settings that should be equal and are not.
        nearness: tables of all attacks of the runs against the smallest norms known.
    """
    ranges = {compared_run.run.manifest.value_range for compared_run in compared_runs}
    with in_units_of(ranges.pop() if len(ranges) == 1 else None):
        return _comparison(compared_runs, differences, nearness)


def _comparison(compared_runs: Sequence[ComparedRun], differences: Sequence[str], nearness: Sequence[Table]) -> Page:
    runs = [compared_run.run for compared_run in compared_runs]
    return Page(
        title=f"Comparison of {len(runs)} runs",
        subtitle=f"{', '.join(c.label for c in compared_runs)} on {runs[0].manifest.data_description}",
        sentences=tuple(_sentences(compared_runs)),
        warnings=tuple(_warnings(compared_runs, differences)),
        plots=tuple(_plots(runs)),
        class_plots=_class_plots(compared_runs),
        tables={
            "runs": (headline_table(compared_runs),),
            "ratios": (*ratio_table(compared_runs), *nearness),
            "classes": tuple(class_tables(compared_runs)),
            "checks": (check_table(compared_runs),),
            "facts": (fact_table(compared_runs),),
        },
        data=_series(compared_runs),
    )


def _sentences(compared_runs: Sequence[ComparedRun]) -> Iterable[Sentence]:
    shared = shared_radius(compared_runs)
    if shared is None:
        yield Sentence(text=f"{len(compared_runs)} runs side by side", bound="")
        return
    eps, norm_name, scores = shared
    parts = [f"{percent(s.miou)} % ({c.label})" for c, s in zip(compared_runs, scores, strict=True)]
    yield Sentence(
        text=f"Under attack within {radius_text(eps, norm_name)}, mIoU is {', '.join(parts[:-1])} and {parts[-1]}",
        bound="upper bounds: a stronger attack can only lower them",
    )


def _warnings(compared_runs: Sequence[ComparedRun], differences: Sequence[str]) -> Iterable[Banner]:
    if differences:
        text = "These runs differ in settings that should be equal. They are compared because --force was given."
        yield Banner(status="fail", title="Not comparable", text=text, items=tuple(differences))
    for c in compared_runs:
        failed = [f"{check.name}: {check.detail}" for check in c.run.checks if check.status == "fail"]
        if failed:
            text = f"Some checks of {c.label} failed. Do not trust the numbers that they concern."
            yield Banner(status="fail", title="Unreliable", text=text, items=tuple(failed))
        if c.run.selection is not None:
            yield Banner(status="warn", title="Optimistic", text=f"{c.label}: {c.run.selection.warning}")
    dropped = tuple(f"{c.label}: {', '.join(c.dropped)}" for c in compared_runs if c.dropped)
    if dropped:
        text = (
            "Not all runs have these attacks and radii. The worst case depends on the attacks, so these are left out."
        )
        yield Banner(status="warn", title="Left out", text=text, items=dropped)


def _plots(runs: Sequence[RunFiles]) -> Iterable[Plot]:
    if any(strongest(run.summary) for run in runs):
        note = "Upper bounds. One colour per run. At first only the strongest attack at each eps is shown."
        yield Plot(key="scores", title="Scores under attack", note=note)
    if any(run.summary.minimal_norm for run in runs):
        note = "Distribution of minimal norms: lower bounds on the success rate. Curves further right are better."
        yield Plot(key="norms", title="Share of images broken within eps", note=note)


def _class_plots(compared_runs: Sequence[ComparedRun]) -> tuple[Plot, ...]:
    return () if not same_classes(compared_runs) or shared_radius(compared_runs) is None else (CLASS_PLOT,)


def _series(compared_runs: Sequence[ComparedRun]) -> dict[str, object]:
    """Curves of all runs, in the form of `plots.report_series`; a colour for each run, a dash for each attack."""
    summaries = [compared_run.run.summary for compared_run in compared_runs]
    names = {name for summary in summaries for name in norm_lines(summary)}
    names |= {line.norm_name for summary in summaries for line in score_lines(summary)}
    norms = [
        {
            **norm_axis(name),
            "curves": list(_curves(compared_runs, name)),
            "steps": list(_steps(compared_runs, name)),
            "best": [],
            "points": [],
        }
        for name in sorted(names, key=norm_order)
    ]
    return {"norms": norms, "classes": list(compared_runs[0].run.label_space.names), "metrics": MENU}


def _curves(compared_runs: Sequence[ComparedRun], name: NormName) -> Iterable[dict[str, object]]:
    for number, c in enumerate(compared_runs):
        best = [found.line for found in strongest(c.run.summary) if found.norm_name == name]
        lines = [*best, *(line for line in score_lines(c.run.summary) if line.norm_name == name)]
        for index, line in enumerate(lines):
            base = Style.number(number)
            style = Style(base.color, base.symbol, DASHES[index % 4])
            found = curve(line, c.run.summary.clean, style, f"{c.label}: {line.label}")
            yield {**found, "off": index > 0}


def _steps(compared_runs: Sequence[ComparedRun], name: NormName) -> Iterable[dict[str, object]]:
    for number, c in enumerate(compared_runs):
        for index, entry in enumerate(norm_lines(c.run.summary).get(name, ())):
            style = Style(Style.number(number).color, "", DASHES[index % 4])
            yield {**steps(norms_of(c.run.records, entry), entry, style, c.label), "off": index > 0}
