"""What stands between a network as it was published and the attacks: normalisation, adapters and weights."""

from segrobust.networks.adapters import FullResolution
from segrobust.networks.checkpoints import load_weights, save_weights, weights_digest
from segrobust.networks.construction import DEFAULT_ALLOWLIST, build_network
from segrobust.networks.normalized import Normalized
from segrobust.networks.weight_files import read_metadata

__all__ = [
    "DEFAULT_ALLOWLIST",
    "FullResolution",
    "Normalized",
    "build_network",
    "load_weights",
    "read_metadata",
    "save_weights",
    "weights_digest",
]
