"""Data sets, their transforms, and the Lightning data module that loads them."""

from segrobust.data.base import Batch, JointTransform, Pixels, Sample, SegmentationDataset, collate
from segrobust.data.camvid import CAMVID, CamVid
from segrobust.data.datamodule import SegmentationDataModule
from segrobust.data.folder import Folder
from segrobust.data.scenes import SCENES
from segrobust.data.synthetic_scenes import SyntheticScenes
from segrobust.data.transforms import TrainTransform

__all__ = [
    "SegmentationDataset",
    "Sample",
    "Batch",
    "collate",
    "Pixels",
    "CamVid",
    "CAMVID",
    "Folder",
    "SyntheticScenes",
    "SCENES",
    "JointTransform",
    "TrainTransform",
    "SegmentationDataModule",
]
