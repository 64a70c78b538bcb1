"""What is measured: confusion counts and IoU over pixels, statistics of minimal norms over images."""

from segrobust.metrics.confusion import (
    ConfusionCounts,
    SegmentationConfusion,
    SegmentationScores,
    accuracy,
    class_accuracy,
    confusion_counts,
    iou_per_class,
    miou_dataset,
    miou_image,
    segmentation_scores,
)
from segrobust.metrics.minimal_norm import (
    MinimalNormStatistics,
    NormRatio,
    asr,
    asr_at,
    geometric_mean_ratio,
    mean_capped,
    minimal_norm_statistics,
    quantiles,
)

__all__ = [
    "ConfusionCounts",
    "MinimalNormStatistics",
    "NormRatio",
    "SegmentationConfusion",
    "SegmentationScores",
    "accuracy",
    "asr",
    "asr_at",
    "class_accuracy",
    "confusion_counts",
    "geometric_mean_ratio",
    "iou_per_class",
    "mean_capped",
    "minimal_norm_statistics",
    "miou_dataset",
    "miou_image",
    "quantiles",
    "segmentation_scores",
]
