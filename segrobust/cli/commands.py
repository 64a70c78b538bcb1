"""Which commands there are, by name. Nothing heavy is imported here, so that `segrobust --help` answers at once."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Command:
    """Where a command is, and what it is for.

    Args:
        module: that holds it below `segrobust.cli`, as a function `<name>_command` of its arguments.
        summary: one line for `segrobust --help`.
        demo: what a bare command does, if it does anything.
    """

    module: str
    summary: str
    demo: str | None = None


COMMANDS: Final[dict[str, Command]] = {
    "evaluate": Command(
        module="evaluate_command",
        summary="attack a trained network and measure its robustness",
        demo="attacks the demo network on generated street scenes",
    ),
    "train": Command(
        module="train_command",
        summary="train a network on clean or attacked images",
        demo="trains the demo network for a few minutes on attacked street scenes",
    ),
    "report": Command(module="report_command", summary="write the report of an evaluation again"),
    "compare": Command(module="report_command", summary="compare several evaluations"),
    "judge": Command(module="judge_command", summary="evaluate stored adversarial images on another network"),
    "data": Command(module="data_command", summary="check a data set, or download one"),
    "configs": Command(module="configs_command", summary="list or copy shipped configurations"),
}
"""All commands by name."""


def program() -> str:
    """What the user started, as usage and errors name it: `segrobust train`, `evaluate.py report`, `evaluate.py`."""
    path, *words = sys.argv
    name = "python -m segrobust" if Path(path).name == "__main__.py" else Path(path).name
    return f"{name} {words[0]}" if words and words[0] in COMMANDS else name
