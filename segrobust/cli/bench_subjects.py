"""The networks and data of the bench that are at hand, by name.

The settings of a network are code that is run, so they come from the package or the clone that it lies in, never from
the folder of a bench, which may be somebody else's.
"""

import os
from typing import Final

from segrobust.shipped import package_file, shipped_path

_CLONE: Final = package_file("").parent
_CAMVID: Final = ("camvid_robust", "camvid_standard", "camvid_transformer")


def arguments_of(name: str) -> tuple[str, ...] | None:
    """Arguments of a command that name a network with its weights and its data; None if they are not at hand.

    Args:
        name: of the network in a bench.
    """
    if name == "demo":
        return f"--config={shipped_path('demo.yaml')}", f"--checkpoint={shipped_path('demo/scenes.safetensors')}"
    weights = _CLONE / "benchmarks" / "networks" / f"{name}.safetensors"
    if name in _CAMVID and weights.is_file() and os.environ.get("SEGROBUST_CAMVID"):
        return f"--config={shipped_path(f'experiment/{name}.yaml')}", f"--checkpoint={weights}"
    return None
