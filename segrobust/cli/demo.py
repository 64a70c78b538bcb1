"""The demo: what `evaluate` and `train` do where no network and no data are named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from segrobust.cli.command_line import CommandLine
from segrobust.shipped import shipped_path

_PARTS: Final = ("model", "data")
"""Settings that say what is attacked or trained."""


def is_demo(command: str, line: CommandLine) -> bool:
    """Whether a command has a demo, and neither options nor files name a network or data.

    Args:
        command: its name.
        line: its arguments.
    """
    if command not in _DEMOS or any(line.values(part) for part in _PARTS):
        return False
    return not any(_names_parts(file) for file in line.values("config"))


def demo_words(command: str, line: CommandLine) -> list[str]:
    """The arguments of the demo of a command, which stand before those that were given.

    Args:
        command: its name.
        line: its arguments.
    """
    without_attacks = ["--attacks=null"] if line.values("preset") else []  # a preset names attacks of its own
    return [*_DEMOS[command], *without_attacks]


def _names_parts(file: str) -> bool:
    """Whether a configuration has settings of a network or data. The parser reports a file that cannot be read."""
    try:
        text = Path(file).read_text(encoding="utf-8") if Path(file).is_file() else file
        content: Any = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError):
        return True
    return not isinstance(content, Mapping) or any(str(key).split(".")[0] in _PARTS for key in content)


def _demos() -> dict[str, Sequence[str]]:
    config, weights = shipped_path("demo.yaml"), shipped_path("demo/scenes.safetensors")
    evaluation = shipped_path("demo_evaluation.yaml")
    return {
        "evaluate": (f"--config={config}", f"--config={evaluation}", f"--checkpoint={weights}"),
        "train": (f"--config={config}", f"--model.init_args.initial_weights={weights}"),
    }


_DEMOS: Final = _demos()
