"""Semantic segmentation networks of Hugging Face `transformers`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segrobust.networks.adapted import AdaptedNetwork, NetworkRecord
from segrobust.networks.foreign_settings import read_settings, refusing, within
from segrobust.networks.huggingface_kinds import TOKENIZER_FILES, Prompts, auto_class, give_logits, stride_of
from segrobust.networks.preprocessing import Preprocessing, choose_preprocessing
from segrobust.networks.query_network import ProductSize
from segrobust.networks.sources import find_source
from segrobust.networks.weight_files import read_content, read_metadata

_SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
_SAFE = ("*.safetensors", "*.safetensors.index.json")
_PICKLED = ("pytorch_model*.bin", "pytorch_model*.bin.index.json")

_ADAPTER = "adapter_config.json"
_SHOWN = 5


class HuggingFaceNetwork(AdaptedNetwork):
    """A segmentation network of `transformers`.

    These are the networks of its `AutoModelForSemanticSegmentation` (SegFormer, UPerNet, BEiT, DPT and others); those
    of its `AutoModelForUniversalSegmentation`, which classify masks (Mask2Former, MaskFormer, OneFormer for the task
    "semantic", EoMT, EoMT-DINOv3, the panoptic head of DETR) and give logits by `QueryNetwork`; and CLIPSeg with fixed
    texts.

    Settings, tokenizers and weights alone are read: no code of a repository is fetched or run. Weights are safetensors
    where there are any, else a pickle that needs no code. A layer that the weights lack is an error, where
    `transformers` would leave it random.

    Images are not resized as the image processor would: the network sees them at the resolution of the data set. Its
    rescaling, normalisation and order of channels are taken over.

    Args:
        source: a folder that `save_pretrained` wrote, or a hub id `owner/name`.
        revision: the commit hash of a hub id; None for a folder.
        mean: one value per channel in [0, 1], where the source records no normalisation for as many channels.
        std: likewise.
        override_normalization: take `mean` and `std` although the source records others; a warning shows both.
        product_size: of networks that classify masks, see `QueryNetwork`; "image" by default.
        prompts: of CLIPSeg, the texts of the classes in their order, or by the names of the classes. Images are then
            resized to the square of the image processor, 352x352 as published. A single text makes two classes, the
            rest of the image first.

    Raises:
        ImportError: `transformers` is not installed.
        OSError: a file is missing, or the hub cannot be reached.
        ValueError: no network for semantic segmentation; weights that lack a layer; a hub id that is not pinned; a
            normalisation that is unknown or contradicts the record; a setting without effect; prompts that are
            missing; or a network without gradient.
    """

    def __init__(
        self,
        source: str,
        revision: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        override_normalization: bool = False,
        product_size: ProductSize | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        beside = (*_SETTINGS, *TOKENIZER_FILES)
        folder = find_source(source, revision, (*beside, *_SAFE))
        if not _found(folder, (*_SAFE, *_PICKLED)):
            folder = find_source(source, revision, (*beside, *_PICKLED))
        network = _load(folder, source)
        config = network.config
        with refusing(folder / _SETTINGS[1], "transformers"):
            processor = _read_processor(folder)
            channels = _num_channels(config)
            recorded = _recorded_normalization(processor, channels)
        with refusing(folder / _SETTINGS[0], "transformers"):
            names = _class_names(config) if prompts is None else tuple(prompts)
        super().__init__(
            give_logits(network, folder, source, processor=processor, product_size=product_size, prompts=prompts),
            preprocessing=choose_preprocessing(
                recorded, mean, std, override=override_normalization, source=source, channels=channels
            ),
            record=NetworkRecord(
                source=source,
                num_classes=config.num_labels if prompts is None else len(prompts),
                class_names=names,
                pretrained=True,
            ),
            stride=stride_of(config.model_type),
            check_size=_own_size(config),
        )


def _found(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern)]


def _load(folder: Path, source: str) -> Any:
    """Reads settings and weights from a folder; nothing is downloaded, and no code of the folder is run."""
    _transformers()
    if not (folder / _SETTINGS[0]).exists():
        raise FileNotFoundError(f"{source} has no {_SETTINGS[0]}: expected what save_pretrained of transformers wrote")
    _check_files(folder)
    settings = read_settings(folder / _SETTINGS[0])
    _check_settings(settings, source)
    with within(folder / _SETTINGS[0], "transformers", _found(folder, (*_SAFE, *_PICKLED))):
        network, found = auto_class(str(settings.get("model_type"))).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=bool(_found(folder, _SAFE)),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype="float32",
        )
    absent = sorted({*found["missing_keys"], *(str(entry[0]) for entry in found["mismatched_keys"])})
    if absent:
        raise ValueError(
            f"{source} lacks {len(absent)} weights of {type(network).__name__}, or has them in another shape: "
            f"{', '.join(absent[:_SHOWN])}{', ...' if len(absent) > _SHOWN else ''}. Take a repository that was "
            f"trained for semantic segmentation, not the backbone alone"
        )
    return network


def _check_files(folder: Path) -> None:
    """Raises ValueError for weights that are damaged, a page or pointer in their place, or need code to be read."""
    if (folder / _ADAPTER).exists():
        raise ValueError(f"{folder} holds {_ADAPTER}, which names weights of another place; merge the adapter first")
    for path in _found(folder, ("*.safetensors",)):
        read_metadata(path)
    if not _found(folder, _SAFE):
        for path in _found(folder, ("pytorch_model*.bin",)):
            read_content(path, beside_objects=False)


def _check_settings(settings: Mapping[str, Any], source: str) -> None:
    """Raises ValueError for a backbone that would be looked up on the hub, at whatever commit."""
    inner = settings.get("backbone_config")
    name = settings.get("backbone") if inner is None else inner.get("backbone") if isinstance(inner, Mapping) else None
    if name is not None and (inner is None or ":" in str(name)):
        raise ValueError(
            f"{source} names its backbone {name!r} without describing it, so that it would be looked up elsewhere, at "
            f"no fixed commit: save the network with a backbone_config"
        )


def _class_names(config: Any) -> tuple[str, ...] | None:
    """The names that a network records; None for those that the library made up."""
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    return None if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError("networks of Hugging Face need transformers: pip install 'segrobust[hf]'") from error
    return transformers


def _read_processor(folder: Path) -> Mapping[str, Any]:
    """Settings of the image processor, with the library's defaults; empty where the folder has none."""
    held = [read_settings(folder / name) for name in _SETTINGS[1:] if (folder / name).exists()]
    if not held:
        return {}
    parts = [*held, *(part for entry in held if isinstance(part := entry.get("image_processor"), Mapping))]
    # OneFormer's processor would fetch this file from another repository of the hub, at no fixed commit.
    nothing_elsewhere = {"class_info_file": None} if any("class_info_file" in part for part in parts) else {}
    processor = _transformers().AutoImageProcessor.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, **nothing_elsewhere
    )
    settings: Mapping[str, Any] = processor.to_dict()
    return settings


def _recorded_normalization(settings: Mapping[str, Any], channels: int) -> Preprocessing | None:
    """What an image processor does to an image besides resizing; None without a processor."""
    if not settings:
        return None
    scale = 255 * settings["rescale_factor"] if settings.get("do_rescale") else 255
    normalises = settings.get("do_normalize")
    mean, std = (settings["image_mean"], settings["image_std"]) if normalises else (0.0, 1.0)
    mean, std = (each if isinstance(each, list | tuple) else (each,) * channels for each in (mean, std))
    return Preprocessing.scaled(mean, std, scale, blue_first=bool(settings.get("do_flip_channel_order")))


def _num_channels(config: Any) -> int:
    """Channels of the images that a network takes; three where it does not say."""
    inner = getattr(config, "backbone_config", None)
    return int(getattr(config, "num_channels", None) or getattr(inner, "num_channels", None) or 3)


def _own_size(config: Any) -> tuple[int, int]:
    """The size of images that a network was made for, where it says so: some take no other."""
    size = getattr(config, "image_size", None) or getattr(getattr(config, "backbone_config", None), "image_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else (64, 64)
