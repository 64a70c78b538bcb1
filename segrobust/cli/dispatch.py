"""Entry points: each finds the command, and imports only what that command needs."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

from segrobust import __version__
from segrobust.cli.command_line import read_command_line
from segrobust.cli.commands import COMMANDS, is_command, program
from segrobust.cli.console import stop, without_traceback
from segrobust.cli.demo import announce_demo, is_demo
from segrobust.cli.early_checks import check_early
from segrobust.cli.help_screen import help_screen, nested_help, nested_names, wanted_help
from segrobust.cli.interfaces import INTERFACES, setting_names
from segrobust.cli.nearest import did_you_mean
from segrobust.cli.settings_files import check_keys_once, check_names, read_settings
from segrobust.shipped import resolve_arguments

_OWN_SCRIPTS: Final = ("train", "evaluate")
"""Commands that have a script in a clone; `evaluate.py` runs all others."""


def main() -> None:
    """Entry point of `segrobust`: runs the command that the first argument names."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_help())
    elif words[0] == "--version":
        _print_version()
    else:
        _run_named(words)


def train() -> None:
    """Entry point of `train.py`: a training."""
    _run("train", sys.argv[1:])


def evaluate() -> None:
    """Entry point of `evaluate.py`: an evaluation, or a command on runs or on data."""
    words = sys.argv[1:]
    if words and not words[0].startswith("-") and words[0] not in _OWN_SCRIPTS:
        _run_named(words)
    else:
        _run("evaluate", words)


def _run_named(words: Sequence[str]) -> None:
    """Runs the command that the first word names."""
    if words[0] not in COMMANDS:
        stop(f"there is no command {words[0]!r}: {did_you_mean(words[0], COMMANDS)}")
    _run(words[0], words[1:])


def _run(name: str, arguments: Sequence[str]) -> None:
    """Checks the arguments of a command, then imports it, which takes seconds, and calls it."""
    nested = is_command((name, *arguments[:1])) and len(arguments) > 0
    full, rest = (f"{name} {arguments[0]}", arguments[1:]) if nested else (name, arguments)
    given = list(arguments)
    if full in INTERFACES:
        with without_traceback(ValueError):
            given = list(arguments) if name == "configs" else list(resolve_arguments(arguments))
            if _answer(full, given[len(arguments) - len(rest) :]):
                return
    elif not rest or rest[0] in ("-h", "--help"):
        sys.stdout.write(nested_help(name, program()))
        return
    else:
        stop(f"there is no command {rest[0]!r}: {did_you_mean(rest[0], nested_names(name))}")
    function: Callable[[Sequence[str]], None]
    function = getattr(import_module(f"segrobust.cli.{COMMANDS[name].module}"), f"{name}_command")
    function(given)


def _answer(name: str, arguments: Sequence[str]) -> bool:
    """Prints help or the version if they are asked for; if not, checks the arguments, and announces a bare demo.

    Args:
        name: of the command, such as `data check`.
        arguments: what follows it.

    Returns:
        Whether nothing remains to be done.

    Raises:
        ValueError: arguments that are wrong.
    """
    group = wanted_help(arguments)
    if group is not None:
        if group and INTERFACES[name].find("model"):
            return False  # the parser knows all options
        sys.stdout.write(help_screen(name, program()))
        return True
    if "--version" in arguments:
        _print_version()
        return True
    line = read_command_line(arguments, INTERFACES[name])
    for option, value in line.options:
        if option != "config" and value is not None:
            check_keys_once(value, f"--{option}")
    files = {file: read_settings(file) for file in line.values("config")}
    if INTERFACES[name].find("model"):
        for file, settings in files.items():
            check_names(settings, file, setting_names(name))
        check_early(line, [*files.values()], trains=name == "train")
    if not arguments and is_demo(name, line):
        announce_demo(name)  # before the import, which takes seconds; with options, which may be wrong, after it
    return False


def _print_version() -> None:
    sys.stdout.write(f"segrobust {__version__}\n")


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
        "Without a network, `segrobust evaluate` attacks a small demo network; `segrobust train` trains it.",
        "`--config segrobust:NAME` uses one of the configurations that `segrobust configs` lists.",
    )
    return "\n".join(lines) + "\n"
