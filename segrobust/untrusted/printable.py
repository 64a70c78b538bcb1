"""Text of others: what a name may hold, and one escape for each medium that text reaches.

Control characters reach further than a reader sees: a terminal obeys them, marks of direction reverse what is shown,
and characters without width make two names look alike. Names that hold them are refused where they are read; everything
that is written passes the escape of its medium, because not every text is a name.
"""

import re
import reprlib
from typing import Final

LONGEST_NAME: Final = 255
"""Characters; the longest file name of the usual file systems has as many bytes."""

_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that Python calls printable and that leave no ink (Unicode: default ignorable; and blank Braille)."""

_SHOWN: Final = 200
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that a spreadsheet reads as a formula, the wide forms of East Asian input included."""


def is_printable(text: str) -> bool:
    """Whether every character of a text is seen as it is.

    False for control characters, line ends, marks of direction, characters without width, and lone surrogates.
    """
    return text.isprintable() and _INVISIBLE.search(text) is None


def visible(text: str) -> str:
    r"""A text on one line, with every character that is not printable as its escape.

    Examples:
        >>> visible("a\nb\x1b[2J")
        'a\\nb\\x1b[2J'
    """
    if is_printable(text):
        return text
    return "".join(character if is_printable(character) else _escaped(character) for character in text)


def check_printable(name: object, what: str) -> None:
    """Refuses a name that is not a short printable text.

    Args:
        name: of a class or a sample.
        what: whose name it is, for the message.

    Raises:
        ValueError: no text, an empty or blank one, more than 255 characters, or characters that cannot be printed.
    """
    if not isinstance(name, str):
        raise ValueError(f"{what} must be text, got {shortened(name)}")
    if not name.strip():
        raise ValueError(f"{what} must not be blank, got {name!r}")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{what} has {len(name)} characters, at most {LONGEST_NAME} are allowed: {shortened(name)}")
    if not is_printable(name):
        raise ValueError(f"{what} {shortened(name)} holds characters that cannot be printed; choose another name")


def shortened(value: object) -> str:
    """The repr of a parsed value, cut before it is made where the value is large; always printable.

    Examples:
        >>> shortened(["a"] * 1000)
        "['a', 'a', 'a', 'a', 'a', 'a', ...]"
    """
    try:
        text = visible(_SHORT.repr(value))
    except ValueError:  # an integer of more digits than Python prints
        text = f"a value of type {type(value).__name__} that is too long to print"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def for_terminal(text: str) -> str:
    """A text of one or more lines for a terminal or a log: control characters other than line ends are escaped."""
    return "\n".join(map(visible, text.split("\n")))


def for_markdown(text: str) -> str:
    """A text within a line of Markdown, escaped for Markdown and for the HTML that Markdown may hold."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{character}" if character in "\\`*_|[]~$#!" else character for character in text)


def markdown_code(text: str) -> str:
    """A text as code within a line of Markdown, between more backticks than it holds itself."""
    text = visible(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def for_csv(value: object) -> object:
    """A cell of a table in CSV: numbers as they are; text printable, and never one that a spreadsheet computes.

    Text that would begin a formula gets an apostrophe before it.

    Examples:
        >>> for_csv("=1+1"), for_csv(-1.5), for_csv("road")
        ("'=1+1", -1.5, 'road')
    """
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def for_html(value: object) -> object:
    """A value that a template is about to print: text printable; HTML itself is escaped by the template."""
    return visible(value) if type(value) is str else value


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong, self.maxdict = 3, 80, 80, 40, 4


_SHORT: Final = _Short()


def _escaped(character: str) -> str:
    """The escape of a character in a Python string; by its number where Python prints it as it is."""
    text = repr(character)[1:-1]
    number = ord(character)
    return text if text.isascii() else f"\\u{number:04x}" if number < 2**16 else f"\\U{number:08x}"
