"""`segrobust configs`: the configurations that come with the package."""

import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from segrobust.cli.commands import program
from segrobust.cli.console import without_traceback
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
    parser = ArgumentParser(
        prog=program(),
        usage=f"{program()} [-h] [GROUP]\n       {program()} copy NAME [TARGET]",
        description="List the configurations that come with segrobust, each with its first line, or copy one.",
    )
    parser.add_argument("group", metavar="GROUP", nargs="?", choices=groups, help=f"one of {', '.join(groups)}")
    wanted = parser.parse_args(list(arguments)).group
    for group in groups if wanted is None else (wanted,):
        names = [name for name in files if _group(name) == group]
        width = max(map(len, names))
        lines = (f"  {name:{width}}  {_first_comment(files[name])}".rstrip() for name in names)
        sys.stdout.write("\n".join((group, *lines)) + "\n\n")
    sys.stdout.write(f"Use one with `--config {PREFIX}NAME`; copy one with `{program()} copy NAME`.\n")


def _group(name: str) -> str:
    """`attack` for `attack/pgd.yaml`; files outside of groups belong to the demo."""
    return name.split("/")[0] if "/" in name else "demo"


def _first_comment(path: Path) -> str:
    if path.suffix in _KINDS:
        return _KINDS[path.suffix]
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[1:].strip() for line in lines if line.startswith("#") and not line.startswith("#!")), "")


def _copy(arguments: Sequence[str]) -> None:
    parser = ArgumentParser(prog=f"{program()} copy", description="Copy a shipped configuration in order to edit it.")
    parser.add_argument("name", metavar="NAME", help="as it is listed, such as attack/pgd.yaml")
    target_help = "file or folder to write; by default the same file name in this folder"
    parser.add_argument("target", metavar="TARGET", nargs="?", type=Path, default=Path(), help=target_help)
    options = parser.parse_args(list(arguments))
    with without_traceback(ValueError, OSError):
        source = shipped_path(options.name)
        target = options.target / source.name if options.target.is_dir() else options.target
        if target.exists():
            raise ValueError(f"{target} exists already; give another TARGET, or remove it")
        if not target.parent.is_dir():
            raise ValueError(f"there is no folder {target.parent}; make it, or give another TARGET")
        shutil.copyfile(source, target)
    sys.stdout.write(f"{target}\n")
