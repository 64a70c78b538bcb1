"""`segrobust report` and `segrobust compare`: pages made from the files of runs."""

from collections.abc import Sequence

from segrobust.cli.console import say, without_traceback
from segrobust.cli.parsers import parse
from segrobust.evaluation.bench.bench_consistency import norms_of_bench
from segrobust.evaluation.reporting.comparison.compare import compare_runs
from segrobust.evaluation.reporting.report import write_report
from segrobust.evaluation.run.run_directory import RunDirectory


def report_command(arguments: Sequence[str]) -> None:
    """Recomputes summaries, curves, tables and the page of a run from its records, and prints the tables."""
    options = parse("report", arguments)
    with without_traceback(ValueError, OSError):
        write_report(RunDirectory(options.run)).print()


def compare_command(arguments: Sequence[str]) -> None:
    """Compares several runs on one page."""
    options = parse("compare", arguments)
    with without_traceback(ValueError, OSError):
        known = [] if options.bench is None else norms_of_bench(options.bench)
        page = compare_runs(options.runs, options.output, force=options.force, known=known)
    say(f"report   {page}")
