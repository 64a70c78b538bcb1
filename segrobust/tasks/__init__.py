"""LightningModules that train segmentation networks, on clean or on attacked batches."""

from segrobust.tasks.adversarial import AdversarialTask
from segrobust.tasks.segmentation import SegmentationTask

__all__ = ("AdversarialTask", "SegmentationTask")
