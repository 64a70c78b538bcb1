"""Backbones of timm with a light head, for training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from huggingface_hub import hf_hub_download
from torch import Tensor, nn

from segrobust.networks.adapted import AdaptedNetwork, NetworkRecord
from segrobust.networks.preprocessing import Preprocessing, choose_preprocessing
from segrobust.networks.sources import require_commit
from segrobust.networks.weight_files import read_content

_WEIGHTS = "model.safetensors"


class LightHead(nn.Module):
    """Adds the levels of a feature pyramid in one space, at the resolution of the finest, and classifies each place.

    A convolution 1x1 for each level, their bilinear sum, batch normalisation, ReLU, and a convolution 1x1. Levels of
    one resolution, as those of plain vision transformers are, are simply added.

    Args:
        in_channels: channels of each level.
        channels: channels of the common space.
        num_classes: number of classes K.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_classes: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1, bias=False) for width in in_channels)
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Gives logits at the resolution of the finest level: L times `(B, C_l, h_l, w_l) -> (B, K, h, w)`."""
        size = max(level.shape[-2:] for level in levels)
        total: Tensor | None = None
        for lateral, level in zip(self.lateral, levels, strict=True):
            term = lateral(level)
            if term.shape[-2:] != size:
                term = F.interpolate(term, size=size, mode="bilinear", align_corners=False)
            total = term if total is None else total + term
        logits: Tensor = self.classifier(F.relu(self.norm(total)))
        return logits


class TimmNetwork(AdaptedNetwork):
    """A backbone of timm that gives features (`features_only`), and a `LightHead`, which is to be trained.

    Vision transformers take images of any size where timm offers that; images are padded to multiples of
    the coarsest level's stride. The normalisation is the one that timm records for the backbone.

    Args:
        backbone: a name of timm, with the tag of its weights where they matter: "resnet18.a1_in1k".
        num_classes: number of classes.
        backbone_file: pretrained weights of the backbone, in timm's format.
        revision: takes the pretrained weights from the hub, `timm/<backbone>` at this commit hash.
        channels: channels of the head.
        mean: one value per channel in [0, 1], instead of the recorded ones.
        std: likewise.
        override_normalization: take `mean` and `std` although timm records others; a warning shows both.
        in_channels: channels of the images. If not 3, timm repeats or adds up the first weights of a pretrained
            backbone, and `mean` and `std` must be given.

    Raises:
        OSError: a file cannot be read, or the hub cannot be reached.
        ValueError: an unknown backbone, or one that gives no features; weights of another one; a revision that is no
            commit; or a normalisation that contradicts the record.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        backbone_file: str | None = None,
        revision: str | None = None,
        channels: int = 128,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        override_normalization: bool = False,
        in_channels: int = 3,
    ) -> None:
        if backbone_file is not None and revision is not None:
            raise ValueError(f"weights come from one place, got {backbone_file=} and {revision=}")
        if not timm.is_model(backbone):
            close = ", ".join(timm.list_models(f"{backbone.split('_')[0]}*")[:8]) or "see timm.list_models()"
            raise ValueError(f"timm has no network {backbone!r}; names like it: {close}")
        if revision is not None:
            repository = f"timm/{backbone}"
            backbone_file = hf_hub_download(repository, _WEIGHTS, revision=require_commit(repository, revision))
        features = _build_backbone(backbone, backbone_file, in_channels)
        settings = timm.get_pretrained_cfg(backbone)
        recorded = None if settings is None else Preprocessing(mean=settings.mean, std=settings.std)
        source = f"{backbone} of timm"
        super().__init__(
            _Pyramid(features, LightHead(features.feature_info.channels(), channels, num_classes)),
            preprocessing=choose_preprocessing(
                recorded, mean, std, override=override_normalization, source=source, channels=in_channels
            ),
            record=NetworkRecord(source=source, num_classes=num_classes),
            stride=max(features.feature_info.reduction()),
            check_size=settings.input_size[1:] if settings is not None and settings.fixed_input_size else (64, 64),
        )


class _Pyramid(nn.Module):
    """A backbone and its head; levels with channels last are brought to channels first."""

    def __init__(self, backbone: Any, head: LightHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.channels_last = str(getattr(backbone, "output_fmt", "NCHW")).rpartition(".")[2] == "NHWC"

    def forward(self, images: Tensor) -> Tensor:
        levels = self.backbone(images)
        logits: Tensor = self.head([level.permute(0, 3, 1, 2) for level in levels] if self.channels_last else levels)
        return logits


def _build_backbone(name: str, file: str | None, channels: int) -> Any:
    """Makes the backbone, with the weights of a file or random ones; nothing is downloaded."""
    if file is None:
        return _create(name, in_chans=channels)
    content = read_content(Path(file))
    held = next((value for value in map(content.get, ("state_dict", "model")) if isinstance(value, dict)), content)
    try:
        # Loaded twice over different random numbers: what differs was in neither, and timm says nothing of it.
        one, other = (_create_loaded(name, dict(held), seed, channels) for seed in (0, 1))
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"{file} does not hold weights of {name}: {error}") from error
    twins = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    random = [key for (key, weight), twin in twins if not weight.equal(twin)]
    if random:
        raise ValueError(f"{file} lacks {len(random)} weights of {name}, such as {', '.join(random[:5])}")
    return one


def _create_loaded(name: str, state: dict[str, Any], seed: int, channels: int) -> Any:
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        overlay = {"state_dict": dict(state), "custom_load": False}
        return _create(name, in_chans=channels, pretrained=True, pretrained_cfg_overlay=overlay)


def _create(name: str, **settings: Any) -> Any:
    """Makes the backbone for images of any size, if it can be."""
    try:
        return timm.create_model(name, features_only=True, dynamic_img_size=True, **settings)
    except TypeError:  # no option of this architecture
        pass
    try:
        return timm.create_model(name, features_only=True, **settings)
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"{name} of timm gives no features for a head: {error}") from error
