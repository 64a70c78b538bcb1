"""LightningModules that train segmentation networks, on clean or on attacked batches."""

from segrobust.tasks.adversarial import AdversarialTask
from segrobust.tasks.minimal_norm import MinimalNormTask
from segrobust.tasks.pir_at import PublishedPIRATTask
from segrobust.tasks.radius import Ramp
from segrobust.tasks.resumption import OtherPlanError
from segrobust.tasks.segmentation import SegmentationTask
from segrobust.tasks.trades import TRADESTask

__all__ = (
    "AdversarialTask",
    "MinimalNormTask",
    "OtherPlanError",
    "PublishedPIRATTask",
    "Ramp",
    "SegmentationTask",
    "TRADESTask",
)
