"""The help of a command: its options in groups, one line each."""

from collections.abc import Iterator, Sequence

from segrobust.cli.interfaces import INTERFACES
from segrobust.cli.options import Interface, Option, Positional

WIDTH = 100
"""Columns of a help page."""


def help_screen(name: str, program: str) -> str:
    """The help of a command.

    Args:
        name: of the command, such as `data check`.
        program: how it was called, such as `python -m segrobust data check`.
    """
    return "\n".join(_lines(INTERFACES[name], program)) + "\n"


def nested_names(name: str) -> list[str]:
    """The commands of a command, such as `check` of `data`."""
    return [other.removeprefix(f"{name} ") for other in INTERFACES if other.startswith(f"{name} ")]


def nested_help(name: str, program: str) -> str:
    """The help of a command of commands.

    Args:
        name: such as `data`.
        program: how it was called.
    """
    commands = nested_names(name)
    width = max(map(len, commands))
    first = (INTERFACES[f"{name} {command}"].description.split(". ")[0].rstrip(".") for command in commands)
    lines = (f"  {command:{width}}  {' '.join(words.split())}" for command, words in zip(commands, first, strict=True))
    last = f"`segrobust {name} COMMAND --help` lists the options of a command."
    return "\n".join((f"usage: {program} COMMAND [OPTIONS]", "", "commands:", *lines, "", last)) + "\n"


def wanted_help(words: Sequence[str]) -> str | None:
    """What `--help` asks for: empty for the page, or `all`, or the name of a group; None without `--help`."""
    for place, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in ("-h", "--help"):
            following = words[place + 1] if place + 1 < len(words) else ""
            return value or ("" if following.startswith("-") else following)
    return None


def _usage_of(positional: Positional) -> str:
    metavar = positional.metavar
    return {"1": metavar, "?": f"[{metavar}]", "+": f"{metavar} [{metavar} ...]"}[positional.count]


def _lines(interface: Interface, program: str) -> Iterator[str]:
    yield " ".join(("usage:", program, *map(_usage_of, interface.positionals), "[OPTIONS]"))
    yield from ("", interface.description)
    rows = [(positional.metavar, _positional_help(positional)) for positional in interface.positionals]
    groups = {heading: [_row(option) for option in options] for heading, options in interface.groups.items()}
    width = max(len(left) for left, _ in (*rows, *(row for group in groups.values() for row in group)))
    if rows:
        yield ""
    yield from (f"  {left:{width}}  {right}" for left, right in rows)
    for heading, group in groups.items():
        yield from ("", f"{heading}:")
        yield from (f"  {left:{width}}  {right}" for left, right in group)
    if interface.notes:
        yield from ("", *interface.notes)


def _row(option: Option) -> tuple[str, str]:
    listed = option.choices and not option.metavar
    value = "NAME" if listed else option.metavar
    choices = f"{', '.join(option.choices)}: " if listed else ""
    return f"--{option.name} {value}".rstrip(), f"{choices}{option.help}"


def _positional_help(positional: Positional) -> str:
    choices = f" ({', '.join(positional.choices)})" if positional.choices else ""
    return f"{positional.help}{choices}"
