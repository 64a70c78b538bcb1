"""Files that come with the package: configurations, and the weights of the demo network. `segrobust:NAME` names one."""

import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Final

PREFIX: Final = "segrobust:"
"""What a path begins with that names a shipped file."""


def package_file(name: str) -> Path:
    """Where a file or folder of the package lies, by its path below `segrobust/`."""
    return Path(str(resources.files("segrobust") / name))


def shipped_files() -> dict[str, Path]:
    """All shipped files by name, such as `attack/pgd.yaml`, in alphabetical order."""
    folder = package_file("configs")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path for path in files}


def shipped_path(name: str) -> Path:
    """Where a shipped file lies.

    Args:
        name: such as `attack/pgd.yaml`, with or without `segrobust:`.

    Raises:
        ValueError: no file of that name comes with the package.
    """
    files, wanted = shipped_files(), name.removeprefix(PREFIX)
    if wanted in files:
        return files[wanted]
    without_group = [name for name in files if name.endswith(f"/{wanted}")]
    nearest = without_group or get_close_matches(wanted, files, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(nearest)}? " if nearest else ""
    raise ValueError(f"no file {wanted!r} comes with segrobust: {meant}`segrobust configs` lists all")


def resolve(path: str | os.PathLike[str]) -> Path:
    """The path itself, or where the shipped file lies that it names.

    Raises:
        ValueError: it begins with `segrobust:` and names no shipped file.
    """
    text = os.fspath(path)
    return shipped_path(text) if text.startswith(PREFIX) else Path(text)


def resolve_arguments(arguments: Iterable[str]) -> Iterator[str]:
    """A command line with the paths of shipped files in place of their names, alone or after `--option=`.

    Raises:
        ValueError: a name that is no shipped file's.
    """
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith(PREFIX):
            yield str(shipped_path(argument))
        elif option.startswith("-") and value.startswith(PREFIX):
            yield f"{option}{equals}{shipped_path(value)}"
        else:
            yield argument
