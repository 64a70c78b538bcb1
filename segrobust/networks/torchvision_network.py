"""Segmentation networks of torchvision."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision import models

from segrobust.networks.adapted import AdaptedNetwork, NetworkRecord
from segrobust.networks.checkpoints import load_weights
from segrobust.networks.preprocessing import Preprocessing, choose_preprocessing
from segrobust.networks.weight_files import read_content

_LAST_LAYERS = ("classifier.4.weight", "classifier.low_classifier.weight")
"""Weights `(K, C, 1, 1)` of the last layer: FCN and DeepLabV3, LR-ASPP."""

_AUXILIARY = "aux_classifier."


class TorchvisionNetwork(AdaptedNetwork):
    """A segmentation network of torchvision, by its name there.

    The auxiliary classifier serves torchvision's own training alone and is dropped. The normalisation is the one of
    torchvision's transforms for the network.

    Args:
        name: one of `torchvision.models.list_models(module=torchvision.models.segmentation)`, such as
            "deeplabv3_resnet50".
        num_classes: number of classes; by default that of the weights, which it must not contradict.
        file: weights in torchvision's format, a state dict or a checkpoint of a training.
        weights: name of weights that torchvision offers, such as "COCO_WITH_VOC_LABELS_V1": these are downloaded and
            checked against torchvision's hash.
        mean: red, green and blue in [0, 1], instead of torchvision's.
        std: likewise.
        override_normalization: take `mean` and `std` although torchvision states others; a warning shows both.
        part: the copy to take from the file, where it holds several (`load_weights`).

    Raises:
        OSError: the file cannot be read, or the download fails.
        ValueError: an unknown name; weights of another network; classes or a normalisation that contradict the
            source; or neither weights nor a number of classes.
    """

    def __init__(
        self,
        name: str,
        num_classes: int | None = None,
        file: str | None = None,
        weights: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        override_normalization: bool = False,
        part: str | None = None,
    ) -> None:
        if file is not None and weights is not None:
            raise ValueError(f"weights come from one place, got file={file!r} and weights={weights!r}")
        offered = _offered_weights(name)
        chosen = None if weights is None else _choose_weights(offered, weights)
        if part is not None and file is None:
            raise ValueError(f"part={part!r} has no effect without file")
        state = _read_file(file, part) if file is not None else None if chosen is None else _download(chosen)
        source = f"{name} of torchvision" if file is None else file
        num_classes = _agree_on_classes(num_classes, state, source)
        network = _build(name, num_classes, auxiliary=state is not None and any(_AUXILIARY in key for key in state))
        if file is not None:
            load_weights(network, file, part=part)
        elif state is not None:
            network.load_state_dict(state)
        _drop_auxiliary(network)
        preset = offered["DEFAULT"].transforms()
        recorded = Preprocessing(mean=tuple(preset.mean), std=tuple(preset.std))
        super().__init__(
            network,
            preprocessing=choose_preprocessing(recorded, mean, std, override=override_normalization, source=source),
            record=NetworkRecord(
                source=source,
                num_classes=num_classes,
                class_names=None if chosen is None else tuple(chosen.meta["categories"]),
                pretrained=state is not None,
            ),
        )


def _offered_weights(name: str) -> Any:
    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise ValueError(f"torchvision has no segmentation network {name!r}, known are {', '.join(known)}")
    return models.get_model_weights(name)


def _choose_weights(offered: Any, weights: str) -> Any:
    """Finds weights by their name, with or without the name of their enumeration."""
    name = weights.removeprefix(f"{offered.__name__}.")
    if name not in offered.__members__:
        raise ValueError(f"torchvision has no weights {weights!r}, known are {', '.join(offered.__members__)}")
    return offered[name]


def _read_file(file: str, part: str | None) -> dict[str, Any]:
    """The tensors of a file by their last layer's names; of `part` alone, where one is chosen."""
    tensors = _tensors(read_content(Path(file)))
    if part is not None and part != ".":
        tensors = {name: value for name, value in tensors.items() if f".{part.strip('.')}." in f".{name}"}
    return tensors


def _tensors(content: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """All tensors of nested entries, by the names of the entries and their own."""
    found = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            found[f"{at}{name}"] = value
        elif isinstance(value, Mapping):
            found.update(_tensors({str(key): item for key, item in value.items()}, f"{at}{name}."))
    return found


def _download(chosen: Any) -> dict[str, Any]:
    found: dict[str, Any] = chosen.get_state_dict(progress=True, check_hash=True, weights_only=True)
    return found


def _agree_on_classes(given: int | None, state: Mapping[str, Any] | None, source: str) -> int:
    """The number of classes that the last layer has, or that a person wants of random weights."""
    if state is None:
        if given is None:
            raise ValueError(f"{source} has no weights: give num_classes, or weights by file or by name")
        return given
    last = [weight for name, weight in state.items() if f".{name}".endswith(tuple(f".{each}" for each in _LAST_LAYERS))]
    if not last:
        raise ValueError(f"{source} holds no segmentation network of torchvision: it has none of {list(_LAST_LAYERS)}")
    numbers = sorted({int(weight.shape[0]) for weight in last})
    if len(numbers) > 1:
        raise ValueError(f"{source} holds networks of {numbers} classes; choose one by part")
    held = numbers[0]
    if given is not None and given != held:
        raise ValueError(f"{source} has {held} classes, got num_classes={given}; leave it out to take the former")
    return held


def _build(name: str, num_classes: int, *, auxiliary: bool) -> Any:
    """Makes the network with random weights; nothing is downloaded."""
    options = {"aux_loss": auxiliary} if not name.startswith("lraspp") else {}
    return models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **options)


def _drop_auxiliary(network: Any) -> None:
    """Leaves out the auxiliary classifier and its features, which only cost time."""
    if getattr(network, "aux_classifier", None) is not None:
        network.aux_classifier = None
        layers = network.backbone.return_layers
        network.backbone.return_layers = {layer: name for layer, name in layers.items() if name != "aux"}
