"""Parsers made from the tables of options."""

import sys
from argparse import SUPPRESS, Action
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from segrobust.cli.command_line import read_command_line
from segrobust.cli.console import stop, without_traceback
from segrobust.cli.interfaces import INTERFACES
from segrobust.cli.nearest import did_you_mean


def add_options(parser: ArgumentParser, name: str, types: Mapping[str, Any]) -> None:
    """Adds the arguments and options of a command to a parser.

    Args:
        parser: of the command.
        name: of the command, such as `data check`.
        types: of the options whose types need torch.
    """
    interface = INTERFACES[name]
    many = {"1": None, "?": "?", "+": "+"}
    for positional in interface.positionals:
        count = many[positional.count]
        settings: dict[str, Any] = {} if count is None else {"nargs": count}
        if positional.count == "?":
            settings["default"] = positional.default
        parser.add_argument(positional.name, type=positional.kind, **settings)
    for option in interface:
        if not option.foreign:
            kind = types.get(option.name, option.kind)
            parser.add_argument(f"--{option.name}", type=kind, default=option.default, help=option.help)


def parse(name: str, arguments: Sequence[str]) -> Namespace:
    """The arguments of a command that takes no classes; those that are wrong end the process with one line.

    Args:
        name: of the command, such as `configs copy`.
        arguments: what follows it on the command line.
    """
    parser = ArgumentParser(exit_on_error=False)
    add_options(parser, name, {})
    with without_traceback(ValueError):
        words = read_command_line(arguments, INTERFACES[name]).words()
    return parser.parse_args(words)


def option_names(parser: ArgumentParser) -> list[str]:
    """The names of all options of a parser, without dashes."""
    names = (name for action in parser._actions for name in action.option_strings)
    return [name.removeprefix("--") for name in names if name.startswith("--") and not name.endswith((".help", "+"))]


def print_group(parser: ArgumentParser, group: str, hidden: Sequence[str]) -> NoReturn:
    """Prints the help of the options of a group, or of all, and ends the process.

    Args:
        parser: of the command.
        group: the first part of their names, or `all`.
        hidden: groups that are left out.
    """
    groups = dict.fromkeys(_top(action) for action in parser._actions if action.help != SUPPRESS)
    listed = [name for name in groups if name not in hidden]
    if group not in ("all", *listed):
        stop(f"--help: there is no group {group!r}: {did_you_mean(group, ('all', *listed))}")
    for action in parser._actions:
        if _top(action) not in (listed if group == "all" else (group,)):
            action.help = SUPPRESS
    parser.usage = "%(prog)s [OPTIONS]"
    sys.stdout.write(parser.format_help())
    sys.exit(0)


def _top(action: Action) -> str:
    long = [name for name in action.option_strings if name.startswith("--")]
    return long[0].removeprefix("--").split(".")[0] if long else action.dest
