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


class DataDoubt(UserWarning):
    """Data that can be read, and may be meant otherwise.

    Args:
        message: what, where, and what to write.
        kind: in a word, such as "palettes".
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind
