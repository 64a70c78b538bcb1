"""Whether images of an evaluation were used to choose the checkpoint that is evaluated."""

from dataclasses import dataclass
from pathlib import Path

from segrobust.evaluation.run.manifest import Manifest

_LEVELS = ("", "*/", "*/*/", "*/*/*/")  # below the folder of a training: <save_dir>/<name>/<version>


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Images that chose the checkpoint: scores on them are optimistic.

    Attributes:
        num_images: how many of the images that are evaluated.
        total: all of these.
        folder: where the training keeps its evaluations.
    """

    num_images: int
    total: int
    folder: str

    @property
    def warning(self) -> str:
        """A sentence for people."""
        return (
            f"{self.num_images} of {self.total} images were also used to choose this checkpoint ({self.folder}): "
            "the numbers are optimistic. Evaluate on images that chose nothing, such as a test set."
        )


def find_selection(run_dir: Path, manifest: Manifest) -> Selection | None:
    """Looks for evaluations that a training made while it ran, beside this run, on the same data and images.

    A training keeps them as `robustness/epoch=...-step=...-<weights>`; its `evaluate.py` writes its run beside them.
    Whether a checkpoint was really chosen by them cannot be told from files: that it could have been is enough to warn.
    """
    parent = run_dir.resolve().parent
    used: set[int] = set()
    folders: set[str] = set()
    for path in sorted(found for level in _LEVELS for found in parent.glob(f"{level}robustness/*/manifest.json")):
        if path.parent == run_dir.resolve():
            continue
        try:
            other = Manifest.read(path)
        except (ValueError, KeyError, TypeError):
            continue
        overlap = {*other.samples} & {*manifest.samples} if other.data == manifest.data else set()
        if overlap:
            used |= overlap
            folders.add(str(path.parent.parent.relative_to(parent)))
    if not used:
        return None
    return Selection(num_images=len(used), total=len(manifest.samples), folder=", ".join(sorted(folders)))
