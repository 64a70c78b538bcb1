"""Weights of classifiers as initial weights of segmentation networks, such as robust ImageNet models (PIR-AT)."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from segrobust.networks.published.published_files import read_tensors, verify_sha256
from segrobust.networks.published.published_network import PublishedNetwork
from segrobust.networks.published.recognition import likely_instead
from segrobust.networks.published.segmenter import resize_positions
from segrobust.networks.weight_differences import describe_differences
from segrobust.networks.weight_match import COUNTERS

CLASSIFIERS: Final = ("fc.", "head.", "head_dist.", "classifier.", "last_linear.", "pre_logits.")
"""Prefixes of what comes after a backbone in a classifier."""

_AROUND: Final = (
    *("normalize.", "normalizer.", "base_normalize.", "attacker."),  # MadryLab/robustness, revisiting-at
    *("incre_modules.", "downsamp_modules.", "final_layer."),  # HRNet's classifier
)
_WRAPPERS: Final = re.compile(r"^(module\.|model\.|base_model\.|_orig_mod\.)+")

_TIMM_CONVNEXT: Final = (
    (re.compile(r"^stem\.stem\."), "downsample_layers.0.stem."),
    (re.compile(r"^stages\.(\d+)\.downsample\."), r"downsample_layers.\1."),
    (re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\.conv_dw\."), r"stages.\1.\2.dwconv."),
    (re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc([12])\."), r"stages.\1.\2.pwconv\3."),
    (re.compile(r"^stages\.(\d+)\.blocks\.(\d+)\."), r"stages.\1.\2."),
)
"""timm's names of a ConvNeXt, by those of its authors."""


_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class BackboneReport:
    """What came from a file of backbone weights, and what did not.

    Attributes:
        loaded: names of the weights that were loaded, as in the network's backbone.
        left_out: names of what the file holds besides: the classifier, a normalisation, entries beside the weights.
        initial: names of the weights of the backbone that no classifier has, which keep their initialisation.
        resized: names of the position embeddings that were interpolated to the network's grid.
    """

    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    initial: tuple[str, ...]
    resized: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.loaded)} weights loaded; left out of the file: {_listed(self.left_out)}; not in it, so as "
            f"initialised: {_listed(self.initial)}; interpolated: {_listed(self.resized)}"
        )


def _listed(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def load_backbone(network: nn.Module, path: str | os.PathLike[str], *, sha256: str | None = None) -> BackboneReport:
    """Copies the weights of a classifier's checkpoint into a backbone, all or nothing.

    The network is one of a published format, wrapped or not, whose backbone is found; or a backbone itself, such as a
    ResNet-50, ConvNeXt or ViT of timm or torchvision. The file is that of a classifier in the names of timm and
    torchvision, or of the authors of ConvNeXt; names that data parallelism, `nmndeep/revisiting-at` or
    `MadryLab/robustness` put before them are dropped. Position embeddings are interpolated bilinearly.

    Every weight of the file must be part of the backbone, except for the classifier and for normalisations, whose
    constants belong into `Normalized`; and every weight of the backbone must come from the file, except for its own
    classifier and for norms that only a segmentation network has.

    Args:
        network: takes the weights, in place, on its device.
        path: the file.
        sha256: its SHA-256, or the first digits of it; not compared if None.

    Returns:
        What was loaded, left out, and left as it was.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no checkpoint, has another hash, or holds the weights of another backbone.
    """
    path = Path(path)
    if sha256 is not None:
        verify_sha256(path, sha256)
    stored, beside = read_tensors(path)
    names = {name: _WRAPPERS.sub("", name) for name in stored}
    left_out = tuple(name for name, short in names.items() if short.startswith((*CLASSIFIERS, *_AROUND)))
    weights = {short: stored[name] for name, short in names.items() if name not in left_out}
    own, initial = _backbone(network)
    attempts = [_fitted(own, weights, rename) for rename in (str, _from_timm_convnext)]  # as they are, or by timm
    fitted, resized, faults = min(attempts, key=lambda attempt: len(attempt[0].keys() ^ own.keys()))
    if faults:
        backbone = f"the backbone of {type(network).__name__}"
        raise ValueError(f"{path} does not fit {backbone}: {faults}{likely_instead(weights)}")
    with torch.no_grad():
        for name, weight in fitted.items():
            own[name].copy_(weight)
    return BackboneReport(loaded=tuple(fitted), left_out=(*beside, *left_out), initial=tuple(initial), resized=resized)


def _backbone(network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of the backbone that a file must give, and the names of those that it does not have."""
    inner = network
    while not isinstance(inner, PublishedNetwork) and isinstance(getattr(inner, "network", None), nn.Module):
        inner = inner.network  # type: ignore[assignment]
    if isinstance(inner, PublishedNetwork):
        state, new = inner.backbone_state(), inner.new_in_backbone
    else:
        state, new = inner.state_dict(keep_vars=True), CLASSIFIERS
    initial = [name for name in state if name.startswith(new)]
    return {name: weight for name, weight in state.items() if name not in initial}, initial


def _from_timm_convnext(name: str) -> str:
    for pattern, replacement in _TIMM_CONVNEXT:
        name, found = pattern.subn(replacement, name)
        if found:
            break
    return name


def _fitted(
    own: Mapping[str, Tensor], stored: Mapping[str, Tensor], rename: Callable[[str], str]
) -> tuple[dict[str, Tensor], tuple[str, ...], str]:
    """Weights by the network's names, the names of resized ones, and what does not fit."""
    weights = {rename(name): weight for name, weight in stored.items()}
    resized = tuple(
        name
        for name, weight in weights.items()
        if name.endswith("pos_embed") and name in own and weight.ndim == 3 and weight.shape != own[name].shape
    )
    for name in resized:
        weights[name] = _resize(name, weights[name], own[name].shape[1])
    return weights, resized, describe_differences(own, weights, COUNTERS)


def _resize(name: str, embedding: Tensor, length: int) -> Tensor:
    before, after = (math.isqrt(count - 1) for count in (embedding.shape[1], length))
    if before**2 + 1 != embedding.shape[1] or after**2 + 1 != length:
        raise ValueError(
            f"{name} has {embedding.shape[1]} positions, the network {length}: both must be a square grid and one more"
        )
    return resize_positions(embedding.float(), before, (after, after))
