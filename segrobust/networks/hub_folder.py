"""Folders in the layout of the Hugging Face Hub: what a network needs to be built again, without code.

The layout is that of the library whose network it is, so that this library reads the folder too: `config.json`,
`model.safetensors` with a record of classes and normalisation, and the library's file of preprocessing. A network of
one's own has no such settings: its folder holds the weights, and its owner builds the module.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from segrobust.label_space import LabelSpace
from segrobust.networks.adapted import AdaptedNetwork
from segrobust.networks.atomic_files import replacing
from segrobust.networks.checkpoints import load_weights, save_weights
from segrobust.networks.foreign_settings import read_settings
from segrobust.networks.network_record import make_record, read_record
from segrobust.networks.network_wrapper import NetworkWrapper
from segrobust.networks.preprocessing import Preprocessing
from segrobust.networks.sources import find_source

WEIGHTS: Final = "model.safetensors"
SETTINGS: Final = "config.json"
_SMP_TRANSFORM, _HF_PROCESSOR = "albumentations_config_eval.json", "preprocessor_config.json"
_FILES = (WEIGHTS, SETTINGS, _SMP_TRANSFORM, _HF_PROCESSOR)
_TOLERANCE = 1e-4
"""Largest difference of logits, in their standard deviations, between a network and what its folder gives."""


def save_network(network: nn.Module, folder: str | os.PathLike[str], *, label_space: LabelSpace | None = None) -> bool:
    """Writes a network into a folder for `load_network`, and for the hub.

    A network of Segmentation Models PyTorch or `transformers` inside `Normalized` and `FullResolution` is written with
    its settings. The folder is then loaded, and its logits are compared with those of the network: settings that give
    other logits, as where further wrappers surround it, are removed again.

    Args:
        network: maps images in [0, 1] to logits.
        folder: made if needed; files of the same names are replaced.
        label_space: classes of the training data, kept beside the weights.

    Returns:
        Whether the folder is enough to build the network. If not, `load_network(folder, network=...)` needs the module.

    Raises:
        OSError: the folder cannot be written.
        TypeError: state of the network that is no tensor.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    record = make_record(network, label_space)
    save_weights(network, folder / WEIGHTS, metadata={"format": "pt", **record})
    settings = _settings(network)
    for name, content in settings.items():
        with replacing(folder / name) as file:
            file.write(json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")
    if settings and _gives_the_same(folder, network):
        return True
    for name in settings:
        (folder / name).unlink()
    return False


def load_network(source: str, revision: str | None = None, network: nn.Module | None = None) -> nn.Module:
    """Loads a network from a folder that `save_network` wrote, or from the hub; no code of it is run.

    Args:
        source: a folder, or a hub id `owner/name`.
        revision: the commit hash of a hub id; None for a folder.
        network: the module that takes the weights, where the folder has no settings.

    Returns:
        The network of images in [0, 1]: `network` itself where it is given.

    Raises:
        OSError: a file is missing, or the hub cannot be reached.
        ValueError: a hub id that is not pinned; a folder without settings, and no `network`; weights that do not fit
            it, or were trained with another normalisation.
    """
    folder = find_source(source, revision, _FILES)
    if network is None:
        return _built(source, revision, folder)
    load_weights(network, folder / WEIGHTS)
    own, trained = Preprocessing.of(network), read_record(folder / WEIGHTS).preprocessing
    if trained is not None and (own is None or not own.agrees_with(trained)):
        raise ValueError(
            f"{source} was trained with the normalisation {trained}, the network has {own or 'none'}: put the module "
            f"into Normalized(network, mean={trained.mean}, std={trained.std})"
        )
    return network


def _built(source: str, revision: str | None, folder: Path) -> AdaptedNetwork:
    """The network that the settings of a library describe, with the names of the classes that the weights record."""
    settings = read_settings(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    network: AdaptedNetwork
    if "_model_class" in settings:
        from segrobust.networks.smp_network import SMPNetwork  # here, as libraries are slow to import

        network = SMPNetwork(source, revision)
    elif "model_type" in settings:
        from segrobust.networks.huggingface_network import HuggingFaceNetwork

        network = HuggingFaceNetwork(source, revision)
    else:
        raise ValueError(
            f"{source} has no {SETTINGS} of Segmentation Models PyTorch or transformers, so that the module is not "
            f"known: build it as its owner does, and call load_network({source!r}, network=module)"
        )
    space = read_record(folder / WEIGHTS).label_space if (folder / WEIGHTS).is_file() else None
    if space is not None and space.num_classes == network.record.num_classes:
        network.record = replace(network.record, class_names=space.names)
    return network


def _settings(network: nn.Module) -> dict[str, dict[str, Any]]:
    """The files that a library reads besides the weights, by name; empty for a network of no such library."""
    preprocessing, inner = Preprocessing.of(network), _innermost(network)
    if preprocessing is None or preprocessing.blue_first:
        return {}
    constants = {"mean": list(preprocessing.mean), "std": list(preprocessing.std)}
    smp, hf = sys.modules.get("segmentation_models_pytorch"), sys.modules.get("transformers")
    if smp is not None and isinstance(inner, smp.base.SegmentationModel):
        step = {"__class_fullname__": "Normalize", "max_pixel_value": 255.0, "normalization": "standard", "p": 1.0}
        transform = {"__class_fullname__": "Compose", "transforms": [step | constants], "p": 1.0}
        config: Any = inner.config
        return {
            SETTINGS: {**config, "encoder_weights": None, "_model_class": type(inner).__name__},
            _SMP_TRANSFORM: {"transform": transform},
        }
    if hf is not None and isinstance(inner, hf.PreTrainedModel):
        processor: dict[str, Any] = {f"image_{name}": values for name, values in constants.items()}
        processor |= {"do_resize": False, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
        return {SETTINGS: inner.config.to_dict(), _HF_PROCESSOR: processor}
    return {}


def _innermost(network: nn.Module) -> nn.Module:
    while isinstance(network, NetworkWrapper | AdaptedNetwork):
        network = network.network
    return network


def _gives_the_same(folder: Path, network: nn.Module) -> bool:
    """Whether the network that the folder describes has the logits of this one, on a random image of an odd size."""
    channels = len(getattr(Preprocessing.of(network), "mean", ()))
    image = torch.rand(1, channels, 67, 93, generator=torch.Generator().manual_seed(0))
    modes = {module: module.training for module in network.modules()}
    place = next(network.parameters())
    try:
        loaded = _built(str(folder), None, folder).to(place).eval()
        with torch.no_grad():
            theirs, ours = loaded(image.to(place)), network.eval()(image.to(place))
    except (ValueError, TypeError, RuntimeError, OSError):
        return False  # settings that cannot be read back are none
    finally:
        for module, mode in modes.items():
            module.training = mode
    return theirs.shape == ours.shape and bool((theirs - ours).abs().max() <= _TOLERANCE * ours.std())
