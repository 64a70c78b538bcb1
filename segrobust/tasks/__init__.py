"""LightningModules that train segmentation networks, on clean or on attacked batches."""

from segrobust.tasks.adversarial_training import AdversarialTask
from segrobust.tasks.checkpoint_files import (
    AtomicCheckpointIO,
    CheckpointWriteError,
    DamagedCheckpointError,
    use_atomic_checkpoints,
)
from segrobust.tasks.minimal_norm_at import MinimalNormTask
from segrobust.tasks.pir_at import PublishedPIRATTask
from segrobust.tasks.ramp import Ramp
from segrobust.tasks.resumption import ScheduleMismatchError
from segrobust.tasks.segmentation import SegmentationTask
from segrobust.tasks.trades import TRADESTask

__all__ = (
    "AdversarialTask",
    "AtomicCheckpointIO",
    "CheckpointWriteError",
    "DamagedCheckpointError",
    "MinimalNormTask",
    "ScheduleMismatchError",
    "PublishedPIRATTask",
    "Ramp",
    "SegmentationTask",
    "TRADESTask",
    "use_atomic_checkpoints",
)
