"""Targets of targeted and localised attacks: a class per pixel, computed from labels and predictions."""

from segrobust.attacks.targets.class_targets import Constant, EraseClasses, MapClasses, SecondBest
from segrobust.attacks.targets.label_maps import LabelMap, majority_map, write_label_map
from segrobust.attacks.targets.region_targets import Box, Localize, MaskFile, OfClasses, Outside, Region
from segrobust.attacks.targets.target_maps import ClassName, Scene, Source, TargetMaps, Targets

__all__ = (
    "Targets",
    "Scene",
    "TargetMaps",
    "ClassName",
    "Source",
    "Constant",
    "SecondBest",
    "MapClasses",
    "EraseClasses",
    "LabelMap",
    "majority_map",
    "write_label_map",
    "Localize",
    "Region",
    "OfClasses",
    "Box",
    "MaskFile",
    "Outside",
)
