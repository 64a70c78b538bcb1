"""The table of commands. Nothing heavy is imported here, so that `segrobust --help` is fast."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from segrobust.cli.interfaces import INTERFACES


@dataclass(frozen=True, kw_only=True)
class Command:
    """The place of a command, and its summary.

    Args:
        module: of the command, below `segrobust.cli`; its function is `<name>_command`, called with the arguments.
        summary: one line for `segrobust --help`.
    """

    module: str
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "evaluate": Command(
        module="evaluate_command",
        summary="attack a trained network and measure its robustness",
    ),
    "train": Command(
        module="train_command",
        summary="train a network on clean or attacked images",
    ),
    "report": Command(module="report_command", summary="rewrite the report of an evaluation"),
    "compare": Command(module="report_command", summary="compare several evaluations"),
    "judge": Command(module="judge_command", summary="evaluate stored adversarial images on another network"),
    "ensemble": Command(module="ensemble_command", summary="choose attacks by gain per pass from the records of runs"),
    "bench": Command(module="bench_command", summary="verify the worst perturbations known, or submit those of a run"),
    "data": Command(module="data_command", summary="describe and check a data set, or download one"),
    "configs": Command(module="configs_command", summary="list or copy shipped configurations"),
    "completion": Command(module="completion_command", summary="print a script that completes commands in a shell"),
}
"""All commands by name."""


def program() -> str:
    """The program name in usage and errors: `segrobust train`, `evaluate.py data check`, `evaluate.py`."""
    path, *words = sys.argv
    name = "python -m segrobust" if Path(path).name == "__main__.py" else Path(path).name
    known = [words[:length] for length in (2, 1) if is_command(words[:length])]
    return " ".join((name, *(known[0] if known else ())))


def is_command(words: Sequence[str]) -> bool:
    """Whether words are a command, or one of `data`, `bench` or `configs`."""
    return len(words) > 0 and (words[0] in COMMANDS if len(words) == 1 else " ".join(words) in INTERFACES)
