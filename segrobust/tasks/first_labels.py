"""What the first masks of a training hold, reported once, as an evaluation does before its work."""

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from segrobust.evaluation.labels import MOST_MASKS, LabelCounter
from segrobust.label_space import LabelSpace


class FirstLabels:
    """Counts the labels of the first masks, and reports absent classes, the share of void, and what is doubtful.

    The masks are those of the loader, after transforms: no other file is read.

    Args:
        ignore_index: label of void pixels.
    """

    def __init__(self, ignore_index: int) -> None:
        self._counter = LabelCounter(ignore_index)
        self._is_done = False

    def add(self, batch: dict[str, Tensor]) -> None:
        """Counts the labels of a batch; nothing after the report."""
        if not self._is_done:
            for mask, sample_id in zip(batch["mask"], batch["sample_id"].tolist(), strict=True):
                self._counter.add(mask, str(sample_id))

    def report(self, num_classes: int, space: LabelSpace | None, *, is_last: bool) -> None:
        """Reports once there are enough masks, or no more.

        Args:
            num_classes: classes that the network predicts.
            space: names of the classes; None if the data do not say.
            is_last: whether no more masks come.
        """
        if self._is_done or not self._counter.num_masks or (self._counter.num_masks < MOST_MASKS and not is_last):
            return
        self._is_done = True
        found = self._counter.survey(num_samples=self._counter.num_masks, num_classes=num_classes, space=space)
        doubts = [*filter(None, (found.foreign, found.doubt, found.counted_void))]
        for doubt in doubts:
            rank_zero_warn(f"training {found.describe()}; {doubt}")
        if not doubts:
            rank_zero_info(f"training {found.describe()}")
