"""Progress of an evaluation, printed through Lightning's progress bar."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar

from segrobust.evaluation.jobs.progress import ProgressLines
from segrobust.evaluation.plan import Plan


class TrainerLines(ProgressLines):
    """Prints the progress lines of an evaluation; nothing if progress bars are off.

    Args:
        trainer: gives the progress bar.
        plan: the attacks.
        sample_ids: the samples of this process.
    """

    def __init__(self, trainer: Trainer, plan: Plan, sample_ids: Sequence[int]) -> None:
        super().__init__(plan, sample_ids, say=self.line)
        self._bar = trainer.progress_bar_callback if trainer.is_global_zero and _has_bar(trainer) else None

    def line(self, text: str) -> None:
        """Prints a line."""
        if self._bar is not None:
            self._bar.print(f"robustness: {text}")


def _has_bar(trainer: Trainer) -> bool:
    """Whether there is a progress bar that has not been disabled."""
    bar = trainer.progress_bar_callback
    return isinstance(bar, ProgressBar) and not getattr(bar, "is_disabled", False)  # the base class lacks the property
