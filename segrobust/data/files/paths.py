"""Where a data set lies, and which names and links are taken from it.

Names come from file systems, archives and text files that somebody else wrote. A name is one printable part of a path;
a file lies below the root of its data set, unless the user says that links may lead elsewhere.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import is_printable, shortened

FOLLOW_LINKS: Final = "SEGROBUST_FOLLOW_LINKS"
"""Environment variable: 1 allows symbolic links that lead out of the root of a data set."""


def find_root(root: str | Path | None, variable: str, what: str) -> Path:
    """The folder of a data set: an argument, else an environment variable.

    Raises:
        ValueError: neither is given.
    """
    value = os.environ.get(variable) if root is None else root
    if not value:
        raise ValueError(f"where is {what}? Pass root=..., or set the environment variable {variable}")
    return Path(value)


def require_folders(root: Path, folders: Iterable[str], layout: str) -> None:
    """Refuses a root that lacks a folder of a published layout.

    Args:
        root: folder of the data set.
        folders: paths below it that must be folders, without links that lead out of the root.
        layout: what is expected, and which archives hold it.

    Raises:
        DataFault: a folder is missing; the message says what was looked for, what is there, and `layout`.
    """
    missing = []
    for folder in folders:
        check_links(root / folder, root)
        if not (root / folder).is_dir():
            missing.append(folder)
    if missing:
        there = sorted(entry.name for entry in os.scandir(root)) if root.is_dir() else None
        seen = "it does not exist" if there is None else f"it holds {', '.join(there[:8]) or 'nothing'}"
        raise DataFault(f"{root} has no folder {', '.join(missing)} ({seen}). Expected: {layout}", kind="layout")


def check_name(name: str, where: str) -> None:
    """Refuses a sample name that is not one printable part of a path.

    Raises:
        DataFault: an empty name, a path, `..`, or characters that cannot be printed.
    """
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise DataFault(
            f"{where}: {shortened(name)} is a path and not a name; a data set reads no files outside its folders",
            kind="name",
        )
    if not is_printable(name) or name.isspace():
        raise DataFault(
            f"{where}: {shortened(name)} holds characters that cannot be printed; rename the file", kind="name"
        )


def check_links(path: Path, root: Path) -> None:
    """Refuses a path below the root of a data set that a symbolic link, its last part or one before, leads out of it.

    Raises:
        DataFault: one does, and the environment variable SEGROBUST_FOLLOW_LINKS is not 1.
    """
    if os.environ.get(FOLLOW_LINKS) == "1":
        return
    parts = path.relative_to(root).parts
    for link in (root.joinpath(*parts[: depth + 1]) for depth in range(len(parts))):
        if link.is_symlink():
            _check_target(link, root)


def _check_target(link: Path, root: Path) -> None:
    try:
        target = link.resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise DataFault(f"{link} is a symbolic link that leads nowhere: {error}", kind="link") from error
    if not target.is_relative_to(root.resolve()):
        raise DataFault(
            f"{link} is a symbolic link to {target}, outside of {root}. Put the files themselves there, or set the "
            f"environment variable {FOLLOW_LINKS}=1 if you trust all links of this data set",
            kind="link",
        )
