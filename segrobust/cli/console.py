"""Output of commands: plain lines, and errors without a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn, TypeGuard

from segrobust.cli.commands import program
from segrobust.untrusted.printable import for_terminal

REFUSED: Final = 2
"""Exit status if the command line, a file or the data are refused; the message says why."""


def say(line: str) -> None:
    """Prints lines; control characters in them, which may come from files of others, are escaped."""
    from rich.console import Console  # slow to import, and errors do not need it

    Console(highlight=False).print(for_terminal(line), markup=False, emoji=False, soft_wrap=True)


def stop(error: Exception | str) -> NoReturn:
    """Ends the process with the message of an error."""
    text = f"there is no file {error.filename}" if _is_missing_file(error) else error
    sys.stderr.write(for_terminal(f"{program()}: error: {text}") + "\n")
    sys.exit(REFUSED)


def _is_missing_file(error: object) -> TypeGuard[FileNotFoundError]:
    """Whether the system says that a file is missing, in its own words."""
    return isinstance(error, FileNotFoundError) and error.filename is not None


@contextmanager
def without_traceback(*errors: type[Exception]) -> Iterator[None]:
    """Within it, errors that the user can fix end the process with their message alone.

    Args:
        errors: types of such errors.
    """
    try:
        yield
    except errors as error:
        stop(error)
