"""Errors of single images, stored beside the records, so that one image does not end a job of days."""

import json
import os
import traceback
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, Self

from segrobust.evaluation.plan import AttackCall, Radius
from segrobust.evaluation.run.records import CLEAN
from segrobust.evaluation.run.strict_json import to_line

FAULT_SCHEMA: Final = 1


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One error of one image.

    Attributes:
        sample_id: position of the image in the data set.
        sample_name: its name there.
        stage: "load" if the image could not be read, "clean" if the clean image could not be judged, or "attack".
        attack: name of the job; empty unless an attack raised the error.
        digest: of the attack's identity; "clean" unless an attack raised the error.
        eps: radius, or "min"; None unless an attack raised the error.
        error: type and message.
        traceback: of the error.
        schema: version of this format.
    """

    sample_id: int
    sample_name: str
    stage: Literal["load", "clean", "attack"]
    attack: str
    digest: str
    eps: Radius | None
    error: str
    traceback: str
    schema: int = FAULT_SCHEMA

    @property
    def key(self) -> tuple[int, str, Radius | None]:
        """The key of the missing record."""
        return self.sample_id, self.digest, self.eps

    @classmethod
    def of(
        cls,
        error: Exception,
        sample_id: int,
        sample_name: str,
        stage: Literal["load", "clean", "attack"],
        call: AttackCall | None = None,
    ) -> Self:
        """The fault of an error, with its traceback; `call` is the call of an attack that raised it."""
        return cls(
            sample_id=sample_id,
            sample_name=sample_name,
            stage=stage,
            attack="" if call is None else call.job.name,
            digest=CLEAN if call is None else call.job.digest,
            eps=None if call is None else call.eps,
            error=f"{type(error).__name__}: {error}",
            traceback="".join(traceback.format_exception(error)),
        )

    def describe(self) -> str:
        """One line of text."""
        what = f"{self.attack} at {self.eps}" if self.stage == "attack" else self.stage
        return f"image {self.sample_id} ({self.sample_name}), {what}: {self.error.splitlines()[0]}"


@dataclass(frozen=True)
class FaultLog:
    """Appends faults to `faults/rank000.jsonl` of a run directory.

    Args:
        directory: the run directory.
        rank: number of this process.
        skip_unreadable: whether to record images that cannot be read; else they end the job.
    """

    directory: Path
    rank: int = 0
    skip_unreadable: bool = False

    def add(self, fault: Fault) -> None:
        """Appends one line.

        Raises:
            OSError: the directory cannot be written.
        """
        path = self.directory / "faults" / f"rank{self.rank:03d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(to_line(asdict(fault)).encode() + b"\n")


def read_faults(directory: str | os.PathLike[str], recorded: Collection[object]) -> tuple[Fault, ...]:
    """The last fault of each key that has no record: a fault that a later command resolved is not listed.

    An incomplete line is left out.

    Args:
        directory: the run directory.
        recorded: keys of the existing records.
    """
    found: dict[object, Fault] = {}
    for path in sorted((Path(directory) / "faults").glob("rank*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                fault = Fault(**json.loads(line))
            except (ValueError, TypeError):
                continue
            if fault.key not in recorded:
                found[fault.key] = fault
    return tuple(sorted(found.values(), key=lambda fault: fault.sample_id))
