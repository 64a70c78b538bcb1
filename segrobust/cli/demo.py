"""The demo: what `evaluate` and `train` do where no network and no data are named."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from segrobust import __version__
from segrobust.cli.command_line import CommandLine
from segrobust.cli.settings_files import read_settings
from segrobust.shipped import shipped_path

_TEXTS: Final = {
    "evaluate": "attacks the demo network on generated street scenes",
    "train": "trains the demo network for a few minutes on attacked street scenes",
}
_PARTS: Final = ("model", "data")
"""Settings that say what is attacked or trained."""


def is_demo(command: str, line: CommandLine) -> bool:
    """Whether a command has a demo, and neither options nor files name a network or data.

    Args:
        command: its name.
        line: its arguments.

    Raises:
        ValueError: a file that cannot be read.
    """
    if command not in _DEMOS or any(line.values(part) for part in _PARTS):
        return False
    names = (str(key).split(".")[0] for file in line.values("config") for key in read_settings(file))
    return not any(name in _PARTS for name in names)


def demo_words(command: str, line: CommandLine) -> list[str]:
    """The arguments of the demo of a command, which stand before those that were given.

    Args:
        command: its name.
        line: its arguments.
    """
    named = line.values("preset") or any("preset" in read_settings(file) for file in line.values("config"))
    without_attacks = ["--attacks=null"] if named else []  # a preset names attacks of its own
    return [*_DEMOS[command], *without_attacks]


def announce_demo(command: str) -> None:
    """Says on stderr, once per job, that the demo is run.

    Args:
        command: its name.
    """
    if all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "SLURM_PROCID", "LOCAL_RANK")):
        options = f"`segrobust {command} --help` lists the options for your own network"
        sys.stderr.write(f"segrobust {__version__} {_TEXTS[command]}; {options}\n")
        sys.stderr.flush()


def _demos() -> dict[str, Sequence[str]]:
    config, weights = shipped_path("demo.yaml"), shipped_path("demo/scenes.safetensors")
    evaluation = shipped_path("demo_evaluation.yaml")
    return {
        "evaluate": (f"--config={config}", f"--config={evaluation}", f"--checkpoint={weights}"),
        "train": (f"--config={config}", f"--model.init_args.initial_weights={weights}"),
    }


_DEMOS: Final = _demos()
