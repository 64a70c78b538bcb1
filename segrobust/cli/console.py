"""Output of commands: plain lines, and errors without a traceback."""

import sys
from typing import NoReturn

from segrobust.cli.commands import program


def say(line: str) -> None:
    """Prints a line as it is."""
    from rich.console import Console  # slow to import, and errors do not need it

    Console(highlight=False).print(line, markup=False, soft_wrap=True)


def stop(error: Exception) -> NoReturn:
    """Ends the process with the message of an error."""
    sys.exit(f"{program()}: error: {error}")
