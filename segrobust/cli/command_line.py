"""Reads a command line against the options of its command, before anything heavy is imported."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from segrobust.cli.nearest import did_you_mean, nearest
from segrobust.cli.options import FALSE, TRUE, Interface, Option

_SHORT: Final = {"-c": "config", "-h": "help"}
_ALONE: Final = ("print_config", "version")
"""Options of the parser that take no value from the next word."""

_KEYS: Final = ("attacks",)
"""Options whose first parts are names of the user, in which a hyphen stays."""


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """Options with their values, in an order in which later ones win: files first, then whole groups, then the rest.

    Args:
        options: names as in files, and values; None for options that are given without one.
        positionals: all other arguments.
    """

    options: tuple[tuple[str, str | None], ...]
    positionals: tuple[str, ...]

    def words(self) -> list[str]:
        """The command line, written in one form."""
        written = (f"--{name}" if value is None else f"--{name}={value}" for name, value in self.options)
        return [*written, *self.positionals]

    def values(self, name: str) -> list[str]:
        """What was given for an option."""
        return [value for given, value in self.options if given == name and value is not None]

    def gives(self, name: str) -> bool:
        """Whether an option or a part of it is given."""
        return any(_top(given) == name for given, _ in self.options)


def read_command_line(words: Sequence[str], interface: Interface) -> CommandLine:
    """Reads the arguments of a command.

    Args:
        words: what follows the command.
        interface: of the command.

    Raises:
        ValueError: an option that does not exist, a value that is missing or not allowed, or too many or too few other
            arguments. The message is one line with the nearest name.
    """
    options: list[tuple[str, str | None]] = []
    positionals: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            positionals += rest
            break
        if not _is_option(word):
            _refuse_loose(word, options, interface)
            positionals.append(word)
            continue
        written, equals, value = word.partition("=")
        name = _name_of(written, interface)
        if _negated(name, interface):
            options.append((_negated(name, interface), _false(written, value if equals else None)))
        else:
            options.append((name, _value_of(name, value if equals else None, rest, interface)))
    _check_positionals(positionals, interface)
    _check_several(options, interface)
    return CommandLine(options=tuple(sorted(options, key=_rank)), positionals=tuple(positionals))


def _is_option(word: str) -> bool:
    return word.startswith("--") or word.split("=")[0] in _SHORT or bool(re.match(r"-[A-Za-z]", word))


def _rank(option: tuple[str, str | None]) -> int:
    """Files before whole groups, and these before their parts, because the parser lets the last one win."""
    name = option[0]
    return 0 if name == "config" else 1 if "." not in name else 2


def _top(name: str) -> str:
    return name.split(".")[0].rstrip("+")


def _name_of(written: str, interface: Interface) -> str:
    """The option that is meant: hyphens become underscores, and `--no_strict` is `no_strict`.

    Raises:
        ValueError: there is no such option.
    """
    if written in _SHORT:
        return _SHORT[written]
    if not written.startswith("--"):
        raise ValueError(f"there is no option {written}: long options begin with --; see --help")
    first, *parts = written.removeprefix("--").split(".")
    first = first.replace("-", "_")
    kept = 1 if first in _KEYS else 0
    name = ".".join((first, *parts[:kept], *(part.replace("-", "_") for part in parts[kept:])))
    if _negated(name, interface):
        return name
    option = interface.find(_top(name))
    if _top(name) in interface.hidden:
        raise ValueError(f"{written} has no effect: nothing is trained; see --help")
    if option is None or (parts and not option.parts):
        raise ValueError(f"there is no option {written}: {_suggestion(written, interface)}see --help")
    return name


def _suggestion(written: str, interface: Interface) -> str:
    words = {option.name.rstrip("+"): option.name.rstrip("+") for option in interface}
    words |= {word: option.name for option in interface for word in option.also}
    given = written.removeprefix("--")
    near = nearest(given, words) or nearest(given.split(".")[0], words)
    return f"did you mean --{words[near[0]]}? " if near else ""


def _negated(name: str, interface: Interface) -> str:
    """The flag that `--no_<flag>` turns off; empty for all other names."""
    flag = name.removeprefix("no_")
    option = interface.find(flag)
    return flag if flag != name and option is not None and option.is_flag else ""


def _false(written: str, value: str | None) -> str:
    if value is not None:
        raise ValueError(f"{written} takes no value, got {value!r}")
    return "false"


def _value_of(name: str, value: str | None, rest: list[str], interface: Interface) -> str | None:
    """The value of an option, which may be the next word.

    Raises:
        ValueError: it is missing or not allowed.
    """
    option = interface.find(name)
    if name in _ALONE:
        return value
    if name.endswith(".help") or name == "help":
        return rest.pop(0) if value is None and rest and not _is_option(rest[0]) else value
    if option is not None and option.is_flag:
        if value is None and rest and (rest[0].casefold() in TRUE + FALSE or _cannot_stand_alone(rest[0], interface)):
            value = rest.pop(0)
        return option.read("true" if value is None else value)
    if value is None:
        if not rest or _is_option(rest[0]):
            raise ValueError(f"--{name} needs a value{_example(option)}; see --help")
        value = rest.pop(0)
    return option.read(value) if option is not None and option.kind is not None else value


def _cannot_stand_alone(word: str, interface: Interface) -> bool:
    """Whether a word after a flag can only be its value, because the command takes no other arguments."""
    return not _is_option(word) and not interface.positionals


def _example(option: Option | None) -> str:
    if option is None:
        return ""
    return f": {', '.join(option.choices)}" if option.choices else f" {option.metavar}".rstrip()


def _check_several(options: Sequence[tuple[str, str | None]], interface: Interface) -> None:
    """Refuses an option of several values that is given twice, of which one would be ignored, or with commas alone.

    Raises:
        ValueError: the message shows how several values are written.
    """
    for option in interface:
        given = [value or "" for name, value in options if name == option.name and option.several]
        if len(given) > 1 or any("," in value and not value.startswith("[") for value in given):
            raise ValueError(
                f"several values are one list: --{option.name} {option.several}; got {' and '.join(given)}"
            )


def _refuse_loose(word: str, options: Sequence[tuple[str, str | None]], interface: Interface) -> None:
    """Refuses a number behind the value of an option of several values.

    Raises:
        ValueError: the message shows how several values are written.
    """
    option = interface.find(options[-1][0]) if options else None
    if option is not None and option.several and re.fullmatch(r"[\d.]+(/[\d.]+)?", word):
        raise ValueError(f"several values are one list: --{option.name} {option.several}; got {word} behind one value")


def _check_positionals(given: Sequence[str], interface: Interface) -> None:
    """Compares the number of other arguments, and their values, with what the command takes.

    Raises:
        ValueError: too many, too few, or a value that is not allowed.
    """
    rest = list(given)
    for positional in interface.positionals:
        if not rest and positional.count != "?":
            raise ValueError(f"expected {positional.metavar}: {positional.help}; see --help")
        taken = rest if positional.count == "+" else rest[:1]
        for value in taken:
            if positional.choices and value not in positional.choices:
                raise ValueError(f"there is no {value!r}: {did_you_mean(value, positional.choices)}")
        rest = rest[len(taken) :]
    if rest:
        raise ValueError(f"unexpected argument {rest[0]!r}; see --help")
