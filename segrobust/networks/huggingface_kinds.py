"""Kinds of segmentation networks of `transformers`: which class reads one, and what it needs besides images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from torch import Tensor, nn

from segrobust.networks.network_wrapper import NetworkWrapper
from segrobust.networks.prompted_network import PromptedNetwork
from segrobust.networks.query_network import ProductSize, QueryNetwork

TOKENIZER_FILES: Final = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json"),
)
"""Files of a tokenizer: OneFormer and CLIPSeg read text."""

Prompts: TypeAlias = Sequence[str] | Mapping[str, str]
"""Texts of the classes in their order, or the text of each class by its name."""

_TASK: Final = "the task is semantic"
"""The text that OneFormer gets for its task, in the words of its training."""

_STRIDES: Final = {"maskformer": 32, "mask2former": 32, "oneformer": 32}
"""Multiples to which the original code pads images, in pixels."""

_PROMPTED, _TASKED, _VIDEO = "clipseg", "oneformer", "videomt"
_ONE_SIZE: Final = ("eomt", "eomt_dinov3")


def auto_class(model_type: str) -> Any:
    """The class of transformers that reads networks of a type.

    Raises:
        ValueError: a network of videos.
    """
    import transformers

    if model_type == _VIDEO:
        raise ValueError(f"networks of type {model_type!r} segment videos; expected a network of images")
    if model_type == _PROMPTED:
        return transformers.CLIPSegForImageSegmentation
    if _classifies_masks(model_type):
        return transformers.AutoModelForUniversalSegmentation
    return transformers.AutoModelForSemanticSegmentation


def _classifies_masks(model_type: str) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES as names

    return model_type in names


def stride_of(model_type: str) -> int:
    """Multiples to which images are padded for networks of a type, in pixels."""
    return _STRIDES.get(model_type, 1)


def give_logits(
    network: Any,
    folder: Path,
    source: str,
    *,
    processor: Mapping[str, Any],
    product_size: ProductSize | None,
    prompts: Prompts | None,
) -> nn.Module:
    """Puts around a network what turns its output into logits of classes.

    Args:
        network: as transformers read it.
        folder: where it was read from.
        source: what it is called in messages.
        processor: settings of its image processor; empty where it has none.
        product_size: see `QueryNetwork`; None for its default.
        prompts: texts of the classes of a network that reads them.

    Raises:
        ValueError: a setting that has no effect on this network, or prompts that are missing, empty or repeated.
        FileNotFoundError: a network that reads text has no tokenizer.
    """
    kind = network.config.model_type
    if prompts is not None and kind != _PROMPTED:
        raise ValueError(f"prompts have no effect: {source} is of type {kind!r} and has its own classes; leave it out")
    if kind == _PROMPTED:
        side = processor.get("size", {}).get("height", network.config.vision_config.image_size)
        network = _prompted(network, folder, source, prompts, side)
    elif kind == _TASKED:
        tokens = _tokens(folder, source, [_TASK], network.config.task_seq_len)
        network = _Tasked(network, tokens["input_ids"] * tokens["attention_mask"])
    elif kind in _ONE_SIZE:
        network = _OneSize(network, network.config.image_size)
    if _classifies_masks(kind):
        return QueryNetwork(network, "image" if product_size is None else product_size)
    if product_size is not None:
        raise ValueError(f"product_size={product_size!r} has no effect: {source} does not classify masks; leave it out")
    wrapped: nn.Module = network
    return wrapped


def _prompted(network: Any, folder: Path, source: str, prompts: Prompts | None, side: int) -> nn.Module:
    """CLIPSeg with fixed texts; the logit of a single one becomes two classes later, the rest of the image first."""
    texts = [] if prompts is None else list(prompts.values() if isinstance(prompts, Mapping) else prompts)
    if isinstance(prompts, str) or not texts or len({*texts}) < len(texts) or not all(text.strip() for text in texts):
        raise ValueError(
            f"{source} segments what texts say: give prompts, one for each class and none twice, such as "
            f"prompts=['road', 'sky'] or prompts={{'road': 'a photo of a road', ...}}; got {prompts!r}"
        )
    tokens = _tokens(folder, source, texts, network.config.text_config.max_position_embeddings)
    return PromptedNetwork(network, tokens["input_ids"], tokens["attention_mask"], side)


def _tokens(folder: Path, source: str, texts: list[str], length: int) -> Mapping[str, Tensor]:
    """Texts as the tokenizer of a folder reads them, padded to one length; no code of the folder is run."""
    import transformers

    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise FileNotFoundError(f"{source} reads text and has no tokenizer; save its whole processor beside it")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    found: Mapping[str, Tensor] = tokenizer(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return found


class _Tasked(NetworkWrapper):
    """OneFormer with its task fixed.

    Args:
        network: a `OneFormerForUniversalSegmentation`.
        tokens: ids of the tokens of the task, `(1, L)`.
    """

    tokens: Tensor

    def __init__(self, network: nn.Module, tokens: Tensor) -> None:
        super().__init__(network)
        self.register_buffer("tokens", tokens, persistent=False)

    def forward(self, images: Tensor) -> object:
        """Gives the output of the network for images `(B, 3, H, W)`."""
        return self.network(images, task_inputs=self.tokens.expand(len(images), -1))


class _OneSize(NetworkWrapper):
    """A network that takes images of one size.

    Args:
        network: gives any output.
        side: height and width of its images, in pixels.
    """

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__(network)
        self.side = side

    def forward(self, images: Tensor) -> object:
        """Gives the output of the network for images `(B, 3, side, side)`.

        Raises:
            ValueError: images of another size.
        """
        if images.shape[2:] != (self.side, self.side):
            height, width = images.shape[2:]
            raise ValueError(
                f"the network takes images of {self.side}x{self.side} pixels only, got {height}x{width}: put "
                f"SlidingWindow(network, window=({self.side}, {self.side})) around it, or resize the data"
            )
        return self.network(images)
