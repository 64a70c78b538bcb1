"""What is measured: confusion counts and IoU over pixels, statistics of minimal norms over images."""

from segrobust.metrics.confusion import (
    ConfusionCounts,
    ConfusionMetric,
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
from segrobust.metrics.norm_statistics import (
    NormRatio,
    asr,
    asr_at,
    geometric_mean_ratio,
    local_optimality,
    mean_capped,
    quantiles,
)
from segrobust.metrics.regions import SIZES, Regions, Tally, find_regions
from segrobust.metrics.under_attack import (
    AttackSuccessRate,
    MedianNorm,
    NormMetric,
    RobustAccuracy,
    RobustMeanIoU,
)

__all__ = [
    "AttackSuccessRate",
    "ConfusionCounts",
    "ConfusionMetric",
    "MedianNorm",
    "NormMetric",
    "NormRatio",
    "Regions",
    "RobustAccuracy",
    "RobustMeanIoU",
    "SIZES",
    "SegmentationConfusion",
    "SegmentationScores",
    "Tally",
    "accuracy",
    "asr",
    "asr_at",
    "class_accuracy",
    "confusion_counts",
    "find_regions",
    "geometric_mean_ratio",
    "iou_per_class",
    "local_optimality",
    "mean_capped",
    "miou_dataset",
    "miou_image",
    "quantiles",
    "segmentation_scores",
]
