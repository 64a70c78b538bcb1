"""Checks on disk: `checks.json`."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

from segrobust.evaluation.checks.check import Check, worst_status
from segrobust.evaluation.run.strict_json import read_document, write_json
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import shortened

CHECKS_SCHEMA: Final = 1
"""Version of the format of `checks.json`."""

_TEXTS: Final = ("name", "status", "detail", "meaning", "fix")


class StoredChecks(NamedTuple):
    """The content of a file: checks, and the digest of the network's weights."""

    checks: tuple[Check, ...]
    weights: str


def write_checks(
    path: str | os.PathLike[str], checks: Iterable[Check], *, weights: str, root: Path | None = None
) -> None:
    """Writes checks as strict JSON. The file is replaced in one step.

    Args:
        path: the file.
        checks: in the order of the file.
        weights: digest of the network's weights.
        root: the run directory, from which on no link is followed; None for the folder of the file.

    Raises:
        OSError: the folder cannot be written.
    """
    found = tuple(checks)
    content = {
        "schema": CHECKS_SCHEMA,
        "weights": weights,
        "status": worst_status(found),
        "checks": [asdict(check) for check in found],
    }
    write_json(Path(path), content, root=root)


def read_checks(path: str | os.PathLike[str], *, root: Path | None = None) -> StoredChecks:
    """The inverse of `write_checks`.

    Args:
        path: the file.
        root: see `write_checks`.

    Raises:
        ValueError: a file that is damaged or of another schema, with its name.
        OSError: the file cannot be read.
    """
    file = Path(path)
    try:
        return _parse(read_document(file, "a file of checks", root=root))
    except ValueError as error:
        raise DataFault(f"{file} holds no checks ({error}); delete it and make the checks again") from error


def _parse(content: object) -> StoredChecks:
    if not isinstance(content, Mapping) or content.get("schema") != CHECKS_SCHEMA:
        got = content.get("schema") if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"this version reads schema {CHECKS_SCHEMA}, got {shortened(got)}")
    weights, checks = content.get("weights"), content.get("checks")
    if not isinstance(weights, str) or not isinstance(checks, list):
        raise ValueError("'weights' must be a text and 'checks' a list")
    return StoredChecks(tuple(_check(entry) for entry in checks), weights)


def _check(entry: Any) -> Check:
    if not isinstance(entry, Mapping) or set(entry) != {*_TEXTS, "attacks"}:
        got = sorted(map(str, entry)) if isinstance(entry, Mapping) else type(entry).__name__
        raise ValueError(f"a check has the fields {', '.join(_TEXTS)} and attacks, got {shortened(got)}")
    texts = {name: entry[name] for name in _TEXTS}
    attacks = entry["attacks"]
    if not isinstance(attacks, list) or not all(isinstance(value, str) for value in (*texts.values(), *attacks)):
        raise ValueError(f"fields of a check are texts, attacks a list of them, got {shortened(dict(entry))}")
    return Check(**texts, attacks=tuple(attacks))
