"""What stands between a network as it was published and the attacks: normalisation, adapters and weights."""

import importlib
from typing import TYPE_CHECKING

from segrobust.networks.adapted import AdaptedNetwork, NetworkRecord
from segrobust.networks.adapters import FullResolution
from segrobust.networks.channels import ClassOrder, ColorOrder, SigmoidClasses
from segrobust.networks.checkpoints import load_weights, save_weights, weights_digest
from segrobust.networks.gradient_check import check_differentiable
from segrobust.networks.hub_folder import load_network, save_network
from segrobust.networks.network_record import WeightsRecord, find_conflicts, make_record, read_record
from segrobust.networks.normalized import Normalized
from segrobust.networks.preprocessing import NormalizationWarning, Preprocessing
from segrobust.networks.program_network import program_network
from segrobust.networks.query_network import QueryNetwork
from segrobust.networks.sliding_window import SlidingWindow
from segrobust.networks.weight_files import read_metadata
from segrobust.networks.weight_match import LoadedWeights

if TYPE_CHECKING:
    from segrobust.networks.huggingface_network import HuggingFaceNetwork
    from segrobust.networks.published import load_backbone, load_published
    from segrobust.networks.smp_network import SMPNetwork
    from segrobust.networks.timm_network import LightHead, TimmNetwork
    from segrobust.networks.torchvision_network import TorchvisionNetwork

__all__ = [
    "AdaptedNetwork",
    "ClassOrder",
    "ColorOrder",
    "FullResolution",
    "HuggingFaceNetwork",
    "LightHead",
    "LoadedWeights",
    "NetworkRecord",
    "NormalizationWarning",
    "Normalized",
    "Preprocessing",
    "QueryNetwork",
    "SMPNetwork",
    "SigmoidClasses",
    "SlidingWindow",
    "TimmNetwork",
    "TorchvisionNetwork",
    "WeightsRecord",
    "check_differentiable",
    "find_conflicts",
    "load_backbone",
    "load_network",
    "load_published",
    "load_weights",
    "make_record",
    "program_network",
    "read_metadata",
    "read_record",
    "save_network",
    "save_weights",
    "weights_digest",
]

_LIBRARIES = {
    "HuggingFaceNetwork": "huggingface_network",
    "LightHead": "timm_network",
    "SMPNetwork": "smp_network",
    "TimmNetwork": "timm_network",
    "TorchvisionNetwork": "torchvision_network",
    "load_backbone": "published",
    "load_published": "published",
}
"""Names whose modules import libraries of networks, which is slow and often not needed."""


def __getattr__(name: str) -> object:
    """Imports a network of a library when it is first asked for."""
    if name in _LIBRARIES:
        found: object = getattr(importlib.import_module(f"{__name__}.{_LIBRARIES[name]}"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
