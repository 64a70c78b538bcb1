"""Networks saved by Segmentation Models PyTorch."""

from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from segmentation_models_pytorch.encoders import encoders

from segrobust.networks.adapted import AdaptedNetwork, NetworkRecord
from segrobust.networks.checkpoints import load_weights
from segrobust.networks.foreign_settings import read_settings, refusing, within
from segrobust.networks.network_wrapper import NetworkWrapper
from segrobust.networks.preprocessing import Preprocessing, choose_preprocessing
from segrobust.networks.sources import find_source
from segrobust.networks.weight_files import read_metadata
from segrobust.untrusted.printable import shortened

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_TRANSFORM = "albumentations_config_eval.json"
_FILES = (_CONFIG, _WEIGHTS, _TRANSFORM)


class SMPNetwork(AdaptedNetwork):
    """A network of Segmentation Models PyTorch from what its `save_pretrained` wrote.

    An output activation that the settings name is left out, so that logits come out. A network of one class, a sigmoid
    logit, becomes one of two. An auxiliary classification head is ignored.

    The normalisation is that of `albumentations_config_eval.json` where the folder has this file, else that of the
    pretrained weights that the encoder started from. What these took is known for encoders of timm; the library keeps
    that of its own encoders on the hub, pinned, and it is asked there only if the network itself is from the hub.

    Args:
        source: a folder that holds `config.json` and `model.safetensors`, or a hub id `owner/name`.
        revision: the commit hash of a hub id; None for a folder.
        mean: one value per channel in [0, 1], where the source records no normalisation for as many channels.
        std: likewise.
        override_normalization: take `mean` and `std` although the source records others; a warning shows both.

    Raises:
        OSError: a file is missing, or the hub cannot be reached.
        ValueError: settings or weights that do not fit; a hub id that is not pinned; a normalisation that is unknown or
            contradicts the record; or a network without gradient.
    """

    def __init__(
        self,
        source: str,
        revision: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        override_normalization: bool = False,
    ) -> None:
        folder = find_source(source, revision, _FILES)
        config = read_settings(folder / _CONFIG)
        read_metadata(folder / _WEIGHTS)  # refuses what is no file of weights, before the network is built
        with within(folder / _CONFIG, "Segmentation Models PyTorch", [folder / _WEIGHTS]):
            network = _build(config, folder / _CONFIG)
            num_classes = int(config.get("classes", 1))  # the defaults of the library
            channels = int(config.get("in_channels", 3))
        load_weights(network, folder / _WEIGHTS)
        recorded = _transform_normalization(folder / _TRANSFORM) or _encoder_normalization(
            config, download=revision is not None
        )
        super().__init__(
            _FirstOutput(network) if num_classes == 1 else network,
            preprocessing=choose_preprocessing(
                recorded, mean, std, override=override_normalization, source=source, channels=channels
            ),
            record=NetworkRecord(source=source, num_classes=num_classes, pretrained=True),
            stride=network.encoder.output_stride if network.requires_divisible_input_shape else 1,
            check_size=_own_size(network),
        )


class _FirstOutput(NetworkWrapper):
    """The mask of a network that may give a label of the whole image besides."""

    def forward(self, images: Any) -> Any:
        output = self.network(images)
        return output[0] if isinstance(output, tuple) else output


def _build(config: Mapping[str, Any], path: Path) -> Any:
    """Makes the network that the settings name, with random weights and nothing downloaded."""
    name = config.get("_model_class")
    known = {architecture.__name__: architecture for architecture in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if name not in known:
        raise ValueError(f"{path} names the architecture {shortened(name)}, known are {', '.join(known)}")
    if ":" in str(config.get("encoder_name", "")):
        raise ValueError(
            f"{path} names the encoder {shortened(config['encoder_name'])}, which would be read from elsewhere"
        )
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    _require_plain_settings({key: arguments[key] for key in arguments.keys() - signature(known[name]).parameters}, path)
    return known[name](**arguments | {"encoder_weights": None, "activation": None})


def _require_plain_settings(further: Mapping[str, Any], path: Path) -> None:
    """Refuses settings for timm that are no sizes: some name files that timm reads."""
    for key, value in further.items():
        values = value if isinstance(value, list) else [value]
        if key.startswith("pretrained") or not all(isinstance(each, int | float | None) for each in values):
            raise ValueError(f"{path}: {shortened(key)} is {shortened(value)}, which timm may read from elsewhere")


def _own_size(network: Any) -> tuple[int, int]:
    """The only size that a vision transformer takes, if it is strict; else one that no pyramid pools to nothing."""
    patches: Any = getattr(getattr(network.encoder, "model", None), "patch_embed", None)
    if getattr(patches, "strict_img_size", False) and patches.img_size is not None:
        height, width = patches.img_size
        return height, width
    return 256, 256


def _transform_normalization(path: Path) -> Preprocessing | None:
    """Reads the normalisation from a pipeline of albumentations, without building the pipeline."""
    if not path.exists():
        return None
    found = [
        step
        for step in _steps(read_settings(path).get("transform"))
        if str(step.get("__class_fullname__")).rpartition(".")[2] == "Normalize"
    ]
    if not found:
        return None
    step = found[0]
    stated = step.get("normalization", "standard") == "standard" and step.get("mean") and step.get("std")
    if len(found) > 1 or not stated:
        raise ValueError(f"{path} normalises in a way that is not one mean and one std: {shortened(found)}")
    with refusing(path, "albumentations"):
        return Preprocessing.scaled(step["mean"], step["std"], 255 / step["max_pixel_value"])


def _steps(value: object) -> Iterator[Mapping[str, Any]]:
    """All transforms of a pipeline, however nested."""
    if isinstance(value, Mapping):
        yield value
        value = value.get("transforms")
    if isinstance(value, list):
        for item in value:
            yield from _steps(item)


def _encoder_normalization(config: Mapping[str, Any], *, download: bool) -> Preprocessing | None:
    """What the encoder's pretrained weights were trained with; None where there were none, or it is not known here."""
    name, weights = str(config.get("encoder_name")), config.get("encoder_weights")
    if weights is None:
        return None
    if name.startswith("tu-"):
        settings = timm.get_pretrained_cfg(name.removeprefix("tu-"))
        return None if settings is None else Preprocessing(mean=settings.mean, std=settings.std)
    pinned = encoders.get(name, {}).get("pretrained_settings", {}).get(weights)
    if pinned is None:
        return None
    find = hf_hub_download if download else try_to_load_from_cache
    path = find(pinned["repo_id"], _CONFIG, revision=pinned["revision"])
    if not isinstance(path, str):
        return None
    found: Any = read_settings(Path(path))
    return Preprocessing.scaled(
        found["mean"],
        found["std"],
        found.get("input_range", (0, 1))[1],
        blue_first=found.get("input_space", "RGB") == "BGR",
    )
