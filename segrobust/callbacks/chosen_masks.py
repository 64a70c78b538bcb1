"""What the masks of the chosen images hold, reported before the first attack."""

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from segrobust.evaluation.dataset import SampleSource
from segrobust.evaluation.labels import survey_labels


def report_masks(dataset: SampleSource, sample_ids: Sequence[int], *, num_classes: int, ignore_index: int) -> None:
    """Says which classes are absent from some of these masks and how much of them is void, or warns of it.

    Args:
        dataset: the samples.
        sample_ids: positions of the chosen samples.
        num_classes: classes that the network predicts.
        ignore_index: label of void pixels.

    Raises:
        ValueError: masks with values that are neither a class nor void, or no valid pixel in all of them.
    """
    survey = survey_labels(dataset, sample_ids, num_classes=num_classes, ignore_index=ignore_index)
    if survey.foreign:
        raise ValueError(f"RobustnessEvaluation: {survey.foreign}")
    if survey.num_masks and not any(survey.class_pixels):
        raise ValueError(f"RobustnessEvaluation: {survey.doubt}, or choose other images by seed= or max_images=")
    doubts = [*filter(None, (survey.doubt, survey.counted_void))]
    for doubt in doubts:
        rank_zero_warn(f"RobustnessEvaluation: {survey.describe()}; {doubt}")
    if not doubts:
        rank_zero_info(f"RobustnessEvaluation: {survey.describe()}")
