"""Files in folders at any depth, such as those of scenes or cities: `images/**`."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from segrobust.data.files.listing import list_files
from segrobust.data.files.paths import check_links, check_name
from segrobust.untrusted.data_fault import DataFault

_DEEPEST: Final = 8
"""Folders below one another; a link to a folder above itself has no end."""


def list_nested(
    folder: Path, below: str, suffixes: frozenset[str], what: str, *, root: Path, beginning: str = "", ending: str = ""
) -> dict[str, Path]:
    """Files of all folders below one, by the path of their folder and their sample name: `aachen/000001`.

    Args:
        folder: that holds the folders, at any depth; its own files count too.
        below: path from each of them to the folder of the files; empty where they lie there.
        suffixes: as in `list_files`, and so are the arguments that follow.
        what: what the files are, for messages.
        root: folder of the data set, which no symbolic link may leave.
        beginning: of the names of files.
        ending: of the names of files.

    Raises:
        DataFault: as `list_files`; or folders lie deeper than 8.
    """
    if not folder.is_dir():
        raise DataFault(f"the folder of {what} is missing: {folder}", kind="layout")
    check_links(folder, root)
    files: dict[str, Path] = {}
    for scene in _folders(folder, root):
        place = scene / below
        if not place.is_dir():
            continue
        try:
            found = list_files(place, suffixes, what, root=root, beginning=beginning, ending=ending)
        except DataFault as fault:
            if fault.kind != "layout":
                raise
            continue
        parts = [unicodedata.normalize("NFC", part) for part in scene.relative_to(folder).parts]
        files |= {"/".join([*parts, name]): path for name, path in found.items()}
    if not files:
        star = f"{beginning}*{ending}"
        raise DataFault(
            f"no {what} in folders below {folder}; looked for "
            + ", ".join(f"{star}{suffix}" for suffix in sorted(suffixes)),
            kind="layout",
        )
    return files


def _folders(folder: Path, root: Path, depth: int = 0) -> Iterator[Path]:
    """A folder and all folders below it, without hidden ones, in the order of their names."""
    if depth > _DEEPEST:
        raise DataFault(f"{folder}: folders lie deeper than {_DEEPEST} below one another", kind="layout")
    yield folder
    for name in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[:1] != "."):
        check_name(name, str(folder))
        check_links(folder / name, root)
        yield from _folders(folder / name, root, depth + 1)
