"""What the options of a command are. Nothing heavy is imported here, so that help and errors are fast."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from segrobust.cli.nearest import did_you_mean, nearest

TRUE: Final = ("true", "yes", "on", "1")
FALSE: Final = ("false", "no", "off", "0")
"""What a flag may be given as; alone it is true, and `--no_<flag>` is false."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a command.

    Args:
        name: as in files, such as `max_images`; the first part of `trainer.max_epochs` is a group of Lightning's.
        help: one line.
        kind: type of its value; None if the command defines it, because it needs torch.
        default: if it is not given.
        metavar: its value in the help; empty for flags, and for choices that the help lists.
        least: the smallest number that is allowed.
        parts: whether the value has options of its own, such as `--wandb.project`.
        foreign: whether Lightning or jsonargparse adds it to the parser, and not the command.
        also: other words for it, under which people look for it.
        several: how several values are written, such as `'[4/255, 8/255]'`; empty for an option of one value.
        usual: its usual values, of which one that is mistyped is refused; others, which packages may add, are not.
    """

    name: str
    help: str
    kind: Any = str
    default: Any = None
    metavar: str = ""
    least: int | None = None
    parts: bool = False
    foreign: bool = False
    also: tuple[str, ...] = ()
    several: str = ""
    usual: tuple[str, ...] = ()

    @property
    def is_flag(self) -> bool:
        """Whether it may be given without a value."""
        return self.kind is bool

    @property
    def choices(self) -> tuple[str, ...]:
        """All values that are allowed, if there is a list."""
        literals = (kind for kind in _alternatives(self.kind) if get_origin(kind) is Literal)
        return tuple(value for kind in literals for value in get_args(kind))

    def read(self, text: str) -> str:
        """The value as the parser reads it.

        Raises:
            ValueError: it is not allowed; the message names the option and what is.
        """
        kinds = _alternatives(self.kind)
        if text == "null" and type(None) in kinds:
            return text
        if self.is_flag:
            return self._read_flag(text)
        if self.choices and text not in self.choices:
            raise ValueError(f"--{self.name}: there is no {text!r}: {did_you_mean(text, self.choices)}")
        if self.usual and text not in self.usual and nearest(text, self.usual):
            raise ValueError(f"--{self.name}: there is no {text!r}: {did_you_mean(text, self.usual)}")
        for kind in (int, float):
            if kind in kinds:
                self.require(self._read_number(text, kind))
        return text

    def require(self, value: float) -> None:
        """Checks a number.

        Raises:
            ValueError: it is too small.
        """
        if self.least is not None and not value >= self.least:
            raise ValueError(f"--{self.name} must be at least {self.least}, got {value}")

    def _read_flag(self, text: str) -> str:
        if text.casefold() not in TRUE + FALSE:
            raise ValueError(f"--{self.name}: expected true or false, or nothing for true, got {text!r}")
        return "true" if text.casefold() in TRUE else "false"

    def _read_number(self, text: str, kind: type[int] | type[float]) -> float:
        try:
            return kind(text)
        except ValueError:
            whole = "a whole number" if kind is int else "a number"
            least = "" if self.least is None else f" of at least {self.least}"
            raise ValueError(f"--{self.name}: expected {whole}{least}, got {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class Positional:
    """An argument without a name.

    Args:
        name: in the code.
        metavar: in the help.
        help: one line.
        count: how often it is given: `1`, `?` at most once, `+` at least once.
        choices: all values that are allowed, if there is a list.
    """

    name: str
    metavar: str
    help: str
    count: Literal["1", "?", "+"] = "1"
    choices: tuple[str, ...] = ()
    kind: Any = str
    default: Any = None


@dataclass(frozen=True, kw_only=True)
class Interface:
    """All that a command takes.

    Args:
        description: one or more lines.
        positionals: in their order.
        groups: options below their headings, in the order of the help.
        hidden: first parts of options that exist, but are not listed.
        notes: last lines of the help.
    """

    description: str
    positionals: tuple[Positional, ...] = ()
    groups: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Option]:
        """All options."""
        return (option for options in self.groups.values() for option in options)

    def find(self, name: str) -> Option | None:
        """The option of this name."""
        return next((option for option in self if option.name == name), None)


def is_path(option: Option) -> bool:
    """Whether the value of an option is a file or a folder."""
    return option.metavar in ("FILE", "FOLDER") or Path in _alternatives(option.kind)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


ONLY_HELP: Final = (Option(name="help", help="this page", foreign=True),)
"""The group of commands with few options."""
