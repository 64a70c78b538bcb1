"""Output of commands: plain lines, and errors without a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from segrobust.cli.commands import program


def say(line: str) -> None:
    """Prints a line as it is."""
    from rich.console import Console  # slow to import, and errors do not need it

    Console(highlight=False).print(line, markup=False, soft_wrap=True)


def stop(error: Exception) -> NoReturn:
    """Ends the process with the message of an error."""
    sys.exit(f"{program()}: error: {error}")


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
