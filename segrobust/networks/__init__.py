"""What stands between a network as it was published and the attacks: normalisation, adapters and weights."""

from segrobust.networks.adapters import FullResolution
from segrobust.networks.normalized import Normalized

__all__ = ["FullResolution", "Normalized"]
