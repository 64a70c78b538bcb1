"""Where the files of a split lie, as one line: `masks/{split}`, `label/*_mask.png`, `images/**`."""

import functools
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from segrobust.data.files.listing import list_files
from segrobust.data.files.nested import list_nested
from segrobust.data.files.paths import check_links
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import is_printable, shortened

SPLIT: Final = "{split}"
NESTED: Final = "**"
"""Stands for folders at any depth; their path is a part of the names of samples."""


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A folder below the root of a data set, and how names of files in it begin and end.

    Attributes:
        folder: path below the root; `{split}` stands for the name of the split, `**` for folders at any depth.
        beginning: of the names.
        ending: of the names, without suffix.
        suffixes: allowed suffixes, in lower case.
    """

    folder: str
    beginning: str = ""
    ending: str = ""
    suffixes: frozenset[str]

    @classmethod
    def parse(cls, text: object, key: str, suffixes: frozenset[str]) -> "Pattern":
        """A pattern from a parsed value: a folder, or a folder and one `*` in the name of files.

        Args:
            text: such as "img", "masks/{split}", "label/*_mask.png" or "images/{split}/**".
            key: what it is the value of, for messages.
            suffixes: that files may have where the pattern names none.

        Raises:
            ValueError: no path below the root, several `*`, `**` before `{split}`, or a suffix that is not read.
        """
        if not isinstance(text, str) or not text or not is_printable(text) or "\\" in text:
            raise ValueError(f"{key} must be a path below this folder, such as {key}/{SPLIT}, got {shortened(text)}")
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{key} must lie below this folder, got {shortened(text)}")
        has_names = "*" in path.name and path.name != NESTED
        folder = path.parent if has_names else path
        beginning, _, ending = path.name.partition("*") if has_names else ("", "", "")
        if "*" in ending or any("*" in part and part != NESTED for part in folder.parts):
            raise ValueError(f"{key} may have one *, in the name of the files, got {shortened(text)}")
        if folder.parts.count(NESTED) > 1 or SPLIT in str(folder).partition(NESTED)[2]:
            raise ValueError(f"{key} may have one **, for folders at any depth after {SPLIT}, got {shortened(text)}")
        pattern = cls(folder=str(folder), suffixes=suffixes, beginning=beginning)
        return pattern.ending_in(ending, key) if has_names else pattern

    def ending_in(self, ending: object, key: str) -> "Pattern":
        """The pattern with another ending of names, with or without suffix: `_mask.png`, `_mask`, `.tif`.

        Raises:
            ValueError: no text, a path, or a suffix that is not read.
        """
        if not isinstance(ending, str) or not is_printable(ending) or any(part in ending for part in "/\\*"):
            raise ValueError(f"{key} must be how names end, such as _mask.png, got {shortened(ending)}")
        stem, dot, suffix = ending.rpartition(".")
        if not dot:
            return Pattern(folder=self.folder, beginning=self.beginning, ending=ending, suffixes=self.suffixes)
        if f".{suffix.lower()}" not in self.suffixes:
            allowed = ", ".join(sorted(self.suffixes))
            raise ValueError(f"{key}: .{suffix} is not read here; allowed are {allowed}, got {shortened(ending)}")
        chosen = frozenset({f".{suffix.lower()}"})
        return Pattern(folder=self.folder, beginning=self.beginning, ending=stem, suffixes=chosen)

    def files(self, root: Path, split: str, what: str) -> dict[str, Path]:
        """Files by sample name.

        Raises:
            DataFault: as `list_files`.
        """
        folder, nested, below = self.folder.replace(SPLIT, split).partition(NESTED)
        check_links(root / folder, root)
        list_them = functools.partial(
            list_nested if nested else list_files,
            suffixes=self.suffixes,
            what=what,
            root=root,
            beginning=self.beginning,
            ending=self.ending,
        )
        if nested:
            return list_them(root / folder, below=below.strip("/"))
        try:
            return list_them(root / folder)
        except DataFault as fault:
            if fault.kind == "layout" and any(entry.is_dir() for entry in (root / folder).glob("[!.]*")):
                line = f"`{what}: {self.folder}/{NESTED}` in classes.yaml"
                raise DataFault(f"{fault}. Folders below it are read by {line}", kind="layout") from None
            raise

    def place(self, root: Path, split: str) -> Path:
        """The folder that holds the files of a split, or the folders with them."""
        return root / self.folder.replace(SPLIT, split).partition(NESTED)[0]

    def splits(self, root: Path) -> list[str]:
        """Names of the splits for which the folder is there."""
        if SPLIT not in self.folder:
            return []
        before, _, after = self.folder.partition(SPLIT)
        parent, _, start = before.rpartition("/")
        end, _, below = after.partition(NESTED)[0].partition("/")
        folder = root / parent
        entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        names = [name for name in entries if name.startswith(start) and name.endswith(end) and name[:1] != "."]
        there = [name for name in names if (folder / name / below).is_dir()]
        return [name.removeprefix(start).removesuffix(end) for name in there]

    def where(self, split: str) -> str:
        """The pattern as it is written, for messages."""
        names = f"{self.beginning}*{self.ending}"
        suffix = next(iter(self.suffixes)) if len(self.suffixes) == 1 else ""
        folder = self.folder.replace(SPLIT, split)
        return folder if names == "*" and not suffix else f"{folder}/{names}{suffix}"
