"""`segrobust report` and `segrobust compare`: pages made from the files of runs."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from segrobust.cli.commands import program
from segrobust.cli.console import say, without_traceback
from segrobust.evaluation.reporting.comparison.compare import compare_runs
from segrobust.evaluation.reporting.report import write_report
from segrobust.evaluation.run.run_directory import RunDirectory

_RUN_HELP = "directory of a run: `evaluation-...` in the run_dir of an evaluation"


def report_command(arguments: Sequence[str]) -> None:
    """Recomputes summaries, curves, tables and the page of a run from its records, and prints the tables."""
    parser = ArgumentParser(prog=program(), description=report_command.__doc__)
    parser.add_argument("run", type=Path, help=_RUN_HELP)
    options = parser.parse_args(list(arguments))
    with without_traceback(ValueError, OSError):
        write_report(RunDirectory(options.run)).print()


def compare_command(arguments: Sequence[str]) -> None:
    """Compares several runs on one page."""
    parser = ArgumentParser(prog=program(), description=compare_command.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help=_RUN_HELP)
    parser.add_argument("--output", type=Path, default=Path("compare.html"), help="the page")
    parser.add_argument(
        "--force",
        action="store_true",
        help="compare even if images, data, thresholds or precision differ; the page shows a warning",
    )
    options = parser.parse_args(list(arguments))
    with without_traceback(ValueError, OSError):
        page = compare_runs(options.runs, options.output, force=options.force)
    say(f"report   {page}")
