"""Errors of single images, stored beside the records, so that one image does not end a job of days."""

import os
import traceback
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, Self

from segrobust.evaluation.plan import AttackCall, Radius
from segrobust.evaluation.run.records import CLEAN, read_radius
from segrobust.evaluation.run.strict_json import append_line, read_lines, shards
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import LONGEST_TEXT, Reader, one_of, read_fields, text, token, whole
from segrobust.untrusted.printable import visible

FAULT_SCHEMA: Final = 1

_LONGEST_TRACEBACK: Final = 2**20


_READERS: Final[dict[str, Reader]] = {
    "sample_id": whole(),
    "sample_name": text(),
    "stage": one_of("load", "clean", "attack"),
    "attack": text(),
    "digest": token,
    "eps": read_radius,
    "error": text(_LONGEST_TRACEBACK),
    "traceback": text(_LONGEST_TRACEBACK),
    "schema": whole(FAULT_SCHEMA, FAULT_SCHEMA),
}


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
            error=f"{type(error).__name__}: {error}"[:LONGEST_TEXT],
            traceback="".join(traceback.format_exception(error))[-LONGEST_TEXT:],
        )

    def describe(self) -> str:
        """One line of text."""
        what = f"{self.attack} at {self.eps}" if self.stage == "attack" else self.stage
        first, _, _ = self.error.partition("\n")
        return visible(f"image {self.sample_id} ({self.sample_name}), {what}: {first}")


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
        append_line(path, asdict(fault), root=self.directory)


def read_faults(directory: str | os.PathLike[str], recorded: Collection[object]) -> tuple[Fault, ...]:
    """The last fault of each key that has no record: a fault that a later command resolved is not listed.

    A last line that is incomplete is left out.

    Args:
        directory: the run directory.
        recorded: keys of the existing records.

    Raises:
        DataFault: a damaged line, with file and number.
    """
    found: dict[object, Fault] = {}
    root = Path(directory)
    for path in shards(root / "faults"):
        for where, value in read_lines(path, "a fault", root=root):
            try:
                fault = Fault(**read_fields(value, _READERS))
            except ValueError as error:
                raise DataFault(f"{where}: {error}; delete this line") from error
            if fault.key not in recorded:
                found[fault.key] = fault
    return tuple(sorted(found.values(), key=lambda fault: fault.sample_id))
