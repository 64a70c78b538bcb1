"""Data sets, their transforms, and the Lightning data module that loads them."""

from segrobust.data.ade20k import ADE20K, ADE20K_150
from segrobust.data.base import Batch, JointTransform, Pixels, Sample, SegmentationDataset, collate, pad_collate
from segrobust.data.camvid import CAMVID, CamVid
from segrobust.data.camvid32 import CAMVID32, CamVid32
from segrobust.data.cityscapes import CITYSCAPES, Cityscapes
from segrobust.data.datamodule import SegmentationDataModule
from segrobust.data.eval_transforms import EvalTransform
from segrobust.data.faults import DataFault
from segrobust.data.folder import Folder
from segrobust.data.scenes import SCENES
from segrobust.data.synthetic_scenes import SyntheticScenes
from segrobust.data.transforms import TrainTransform
from segrobust.data.voc import PASCAL_VOC, PascalVOC
from segrobust.data.void_as_class import VoidAsClass

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
    "TrainTransform",
    "EvalTransform",
    "DataFault",
    "SegmentationDataModule",
]
