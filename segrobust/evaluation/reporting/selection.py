"""Whether images of an evaluation were also used to select the checkpoint that is evaluated."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segrobust.evaluation.run.records import Record, digests_of, read_records
from segrobust.untrusted.folders import real_path

_LEVELS = ("", "*/", "*/*/", "*/*/*/")  # below the folder of a training: <save_dir>/<name>/<version>


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Images that were used to select the checkpoint: scores on them are optimistic.

    Attributes:
        num_images: number of evaluated images that were used.
        total: number of evaluated images.
        folder: of the evaluations during the training.
    """

    num_images: int
    total: int
    folder: str

    @property
    def warning(self) -> str:
        """The warning, as sentences."""
        return (
            f"{self.num_images} of {self.total} images were also used to select this checkpoint ({self.folder}): "
            "the numbers are optimistic. Evaluate on other images, such as a test set."
        )


def find_selection(run_dir: Path, records: Iterable[Record]) -> Selection | None:
    """Looks beside this run for evaluations during a training on the same images and masks.

    A training stores them as `robustness/epoch=...-step=...-<weights>`; the evaluation of its network writes its run
    beside them. Files do not show whether the checkpoint was really selected by them; that it may have been is enough
    to warn.
    """
    parent = real_path(run_dir).parent
    evaluated = digests_of(records)
    used: set[int] = set()
    folders: set[str] = set()
    for path in sorted(found for level in _LEVELS for found in parent.glob(f"{level}robustness/*/records")):
        if path.parent == real_path(run_dir):
            continue
        try:
            others = {*digests_of(read_records(path.parent)).values()}
        except (ValueError, OSError):
            continue
        overlap = {sample_id for sample_id, digest in evaluated.items() if digest in others}
        if overlap:
            used |= overlap
            folders.add(str(path.parent.parent.relative_to(parent)))
    if not used:
        return None
    return Selection(num_images=len(used), total=len(evaluated), folder=", ".join(sorted(folders)))
