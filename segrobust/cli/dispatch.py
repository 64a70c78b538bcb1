"""Entry points: each finds the command, and imports only what that command needs."""

import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Final

from segrobust import __version__
from segrobust.cli.commands import COMMANDS
from segrobust.cli.console import stop, without_traceback
from segrobust.shipped import resolve_arguments

_OWN_SCRIPTS: Final = ("train", "evaluate")
"""Commands that have a script in a clone; `evaluate.py` runs all others."""


def main() -> None:
    """Entry point of `segrobust`: runs the command that the first argument names."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_help())
    elif words[0] == "--version":
        sys.stdout.write(f"segrobust {__version__}\n")
    elif words[0] in COMMANDS:
        _run(words[0], words[1:])
    else:
        nearest = get_close_matches(words[0], COMMANDS, n=1)
        meant = f"did you mean {nearest[0]}?" if nearest else f"expected one of {', '.join(COMMANDS)}"
        stop(ValueError(f"there is no command {words[0]!r}: {meant}"))


def train() -> None:
    """Entry point of `train.py`: a training."""
    _run("train", sys.argv[1:])


def evaluate() -> None:
    """Entry point of `evaluate.py`: an evaluation, or a command on runs or on data."""
    words = sys.argv[1:]
    if words and words[0] in COMMANDS and words[0] not in _OWN_SCRIPTS:
        _run(words[0], words[1:])
    else:
        _run("evaluate", words)


def _run(name: str, arguments: Sequence[str]) -> None:
    """Imports a command and calls it. A demo is announced first, because the import takes seconds."""
    command = COMMANDS[name]
    with without_traceback(ValueError):
        given = arguments if name == "configs" else list(resolve_arguments(arguments))  # `configs` is about the names
    if command.demo is not None and not given and _is_first_process():
        options = f"`segrobust {name} --help` lists the options for your own network"
        sys.stderr.write(f"segrobust {__version__} {command.demo}; {options}\n")
        sys.stderr.flush()
    function: Callable[[Sequence[str]], None]
    function = getattr(import_module(f"segrobust.cli.{command.module}"), f"{name}_command")
    function(given)


def _is_first_process() -> bool:
    """Whether this is the only process, or the one of rank 0 under torchrun, srun or Lightning."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = (
        "usage: segrobust COMMAND [ARGUMENTS]",
        "",
        "Adversarial evaluation and training of semantic segmentation networks.",
        "",
        "commands:",
        *(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()),
        "",
        "`segrobust COMMAND --help` lists the options of a command; `segrobust --version` prints the version.",
        "Without arguments, `segrobust evaluate` attacks a small demo network, and `segrobust train` trains it.",
        "`--config segrobust:NAME` uses one of the configurations that `segrobust configs` lists.",
    )
    return "\n".join(lines) + "\n"
