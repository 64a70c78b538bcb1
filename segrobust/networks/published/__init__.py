"""Architectures of published checkpoints, loaded key for key without the frameworks that wrote them."""

from segrobust.networks.published.backbones import BackboneReport, load_backbone
from segrobust.networks.published.catalogue import (
    CHECKPOINTS,
    PublishedCheckpoint,
    checkpoint_table,
    load_published,
)
from segrobust.networks.published.deeplabv3plus import MMSegDeepLabV3Plus
from segrobust.networks.published.hrnet import MMSegFCNHRNet
from segrobust.networks.published.pspnet import MMSegPSPNet
from segrobust.networks.published.published_network import PublishedNetwork
from segrobust.networks.published.segformer import MMSegSegFormer
from segrobust.networks.published.segmenter import PIRATSegmenter
from segrobust.networks.published.semseg import SemsegDeepLabV3, SemsegPSPNet
from segrobust.networks.published.upernet import PIRATUPerNet

__all__ = [
    "CHECKPOINTS",
    "BackboneReport",
    "MMSegDeepLabV3Plus",
    "MMSegFCNHRNet",
    "MMSegPSPNet",
    "MMSegSegFormer",
    "PIRATSegmenter",
    "PIRATUPerNet",
    "PublishedCheckpoint",
    "PublishedNetwork",
    "SemsegDeepLabV3",
    "SemsegPSPNet",
    "checkpoint_table",
    "load_backbone",
    "load_published",
]
