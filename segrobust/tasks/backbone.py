"""Backbones initialised from a classifier, such as a robust one in PIR-AT (Croce, Singh and Hein, ECCV 2024)."""

from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from segrobust.networks import load_backbone

_SHOWN = 5


def start_backbone(network: nn.Module, path: str) -> None:
    """Loads a classifier's weights into the backbone of a network, and logs which weights were not used.

    Args:
        network: see `segrobust.networks.load_backbone`.
        path: file of the classifier.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no checkpoint, or one of another backbone.
    """
    report = load_backbone(network, path)
    rank_zero_info(
        f"{path}: {len(report.loaded)} weights loaded; left out of the file: {_listed(report.left_out)}; not in it, so "
        f"as initialised: {_listed(report.initial)}; interpolated: {_listed(report.resized)}"
    )


def _listed(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
