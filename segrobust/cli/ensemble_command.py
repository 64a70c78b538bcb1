"""`segrobust ensemble`: attacks chosen from the records of runs by what they gain per pass."""

from collections.abc import Sequence

from segrobust.cli.console import say, stop, without_traceback
from segrobust.cli.parsers import parse
from segrobust.evaluation.reporting.comparison.run_portfolio import run_portfolio
from segrobust.evaluation.run.strict_json import write_json
from segrobust.functional.lengths import read_length
from segrobust.untrusted.regular_files import replace_file


def ensemble_command(arguments: Sequence[str]) -> None:
    """Chooses an ensemble, prints its table, and writes it where that is asked for.

    Args:
        arguments: what follows `ensemble` on the command line.
    """
    options = parse("ensemble", arguments)
    for name in ("json", "yaml"):
        file = getattr(options, name)
        if file is not None and not file.parent.is_dir():
            stop(f"--{name}: there is no folder {file.parent}")
    with without_traceback(ValueError, OSError):
        eps = None if options.eps is None else read_length(options.eps)
        found = run_portfolio(options.runs, metric=options.metric, eps=eps, members=options.members)
        say(str(found))
        if options.json is not None:
            rows = {"metric": options.metric, "eps": found.eps, "norm": found.norm_name, "steps": found.rows()}
            write_json(options.json, rows)
            say(f"json     {options.json}")
        if options.yaml is not None:
            replace_file(options.yaml, found.settings().encode())
            say(f"yaml     {options.yaml}")
