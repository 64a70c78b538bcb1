"""The error about files that somebody else wrote."""

from typing import Literal, TypeAlias

from segrobust.untrusted.printable import visible

FaultKind: TypeAlias = Literal[
    "layout",
    "range",
    "name",
    "link",
    "unpaired",
    "unreadable",
    "too large",
    "mode",
    "size",
    "labels",
    "list",
    "classes",
]


class DataFault(ValueError):
    """A fault of files on disk, with its kind; the message is one line of printable text.

    Args:
        message: the file, what it holds, what is allowed, and how to fix it.
        kind: what is wrong, in a word.
    """

    def __init__(self, message: str, *, kind: FaultKind = "unreadable") -> None:  # processes raise it anew by its text
        super().__init__(visible(message))
        self.kind: FaultKind = kind
