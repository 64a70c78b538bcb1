"""Strict JSON, with infinities and nan as strings; files are replaced in one step."""

import json
import os
from collections.abc import Mapping
from pathlib import Path


def portable(value: object) -> object:
    """The value with inf, -inf and nan, which JSON lacks, as strings; `float` reads them back.

    Args:
        value: nested mappings, lists, tuples, strings, numbers and None.
    """
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return value


def to_line(value: object) -> str:
    """One line of strict JSON, without the newline."""
    return json.dumps(portable(value), allow_nan=False, separators=(",", ":"))


def write_json(path: Path, value: object) -> None:
    """Writes indented strict JSON to a temporary file that then replaces `path`: readers see the old or the new one.

    Raises:
        OSError: the folder cannot be written.
    """
    replace_file(path, (json.dumps(portable(value), allow_nan=False, indent=1) + "\n").encode())


def replace_file(path: Path, content: bytes) -> None:
    """Writes `content` to a temporary file that then replaces `path`.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
