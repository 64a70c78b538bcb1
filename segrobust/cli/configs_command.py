"""`segrobust configs`: the configurations that come with the package."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from segrobust.cli.console import stop, without_traceback
from segrobust.cli.nearest import did_you_mean
from segrobust.cli.parsers import parse
from segrobust.shipped import PREFIX, shipped_files, shipped_path

_KINDS: Final = {".png": "label map, for `LabelMap`", ".safetensors": "weights, for --checkpoint"}
"""Descriptions of files without comments, by suffix."""


def configs_command(arguments: Sequence[str]) -> None:
    """Entry point of `segrobust configs`: lists the shipped configurations, or copies one.

    Args:
        arguments: what follows `configs` on the command line.
    """
    if arguments and arguments[0] == "copy":
        _copy(arguments[1:])
    else:
        _list(arguments)


def _list(arguments: Sequence[str]) -> None:
    files = shipped_files()
    groups = sorted({_group(name) for name in files})
    wanted = parse("configs", arguments).group
    if wanted is not None and wanted not in groups:
        stop(f"there is no group {wanted!r}: {did_you_mean(wanted, groups)}")
    for group in groups if wanted is None else (wanted,):
        names = [name for name in files if _group(name) == group]
        width = max(map(len, names))
        lines = (f"  {name:{width}}  {_first_comment(files[name])}".rstrip() for name in names)
        sys.stdout.write("\n".join((group, *lines)) + "\n\n")
    sys.stdout.write(f"Use one with `--config {PREFIX}NAME`; copy one with `segrobust configs copy NAME`.\n")


def _group(name: str) -> str:
    """`attack` for `attack/pgd.yaml`; files outside of groups belong to the demo."""
    return name.split("/")[0] if "/" in name else "demo"


def _first_comment(path: Path) -> str:
    if path.suffix in _KINDS:
        return _KINDS[path.suffix]
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[1:].strip() for line in lines if line.startswith("#") and not line.startswith("#!")), "")


def _copy(arguments: Sequence[str]) -> None:
    options = parse("configs copy", arguments)
    with without_traceback(ValueError, OSError):
        source = shipped_path(options.name)
        target = options.target / source.name if options.target.is_dir() else options.target
        if target.exists():
            raise ValueError(f"{target} exists already; give another TARGET, or remove it")
        if not target.parent.is_dir():
            raise ValueError(f"there is no folder {target.parent}; make it, or give another TARGET")
        shutil.copyfile(source, target)
    sys.stdout.write(f"{target}\n")
