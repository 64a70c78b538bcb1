"""Data sets, their transforms, and the Lightning data module that loads them."""

from segrobust.data.datamodule import SegmentationDataModule
from segrobust.data.datasets.ade20k import ADE20K, ADE20K_150
from segrobust.data.datasets.camvid import CAMVID, CamVid
from segrobust.data.datasets.camvid32 import CAMVID32, CamVid32
from segrobust.data.datasets.cityscapes import CITYSCAPES, Cityscapes
from segrobust.data.datasets.folder import Folder
from segrobust.data.datasets.synthetic_scenes import SyntheticScenes
from segrobust.data.datasets.voc import PASCAL_VOC, PascalVOC
from segrobust.data.datasets.void_as_class import VoidAsClass
from segrobust.data.eval_transforms import EvalTransform
from segrobust.data.scenes import SCENES
from segrobust.data.segmentation_dataset import (
    Batch,
    JointTransform,
    Labels,
    Pixels,
    Sample,
    SegmentationDataset,
    collate,
    pad_collate,
)
from segrobust.data.transforms import TrainTransform
from segrobust.untrusted.data_fault import DataFault

__all__ = [
    "SegmentationDataset",
    "Sample",
    "Batch",
    "collate",
    "pad_collate",
    "Pixels",
    "Folder",
    "PascalVOC",
    "PASCAL_VOC",
    "Cityscapes",
    "CITYSCAPES",
    "ADE20K",
    "ADE20K_150",
    "CamVid",
    "CAMVID",
    "CamVid32",
    "CAMVID32",
    "SyntheticScenes",
    "SCENES",
    "VoidAsClass",
    "JointTransform",
    "Labels",
    "TrainTransform",
    "EvalTransform",
    "DataFault",
    "SegmentationDataModule",
]
