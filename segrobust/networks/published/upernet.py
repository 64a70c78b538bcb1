"""UPerNet on ConvNeXt with a convolutional stem, as SEA's authors train it (PIR-AT).

The networks see images in [0, 1] as they are: neither the code nor the files have a normalisation.

Sources: Croce, Singh and Hein, "Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation Models",
ECCV 2024; Xiao et al., "Unified Perceptual Parsing", ECCV 2018; Liu et al., "A ConvNet for the 2020s", CVPR 2022;
Singh, Croce and Hein, "Revisiting Adversarial Training for ImageNet", NeurIPS 2023 (the stem).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, TypeAlias

import torch
from timm.layers import DropPath, LayerNorm2d
from torch import Tensor, nn

from segrobust.networks.published.layers import EncoderDecoder, PyramidPooling, conv_norm_relu, resize
from segrobust.networks.published.published_network import Format, PublishedNetwork

Variant: TypeAlias = Literal["tiny", "small"]

_DEPTHS: Final = {"tiny": (3, 3, 9, 3), "small": (3, 3, 27, 3)}
_EPS: Final = 1e-6


class PIRATUPerNet(PublishedNetwork):
    """UPerNet-ConvNeXt-T or -S with ConvStem in the format of nmndeep/Robust-Segmentation, at images of any size.

    `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, num_classes, H, W)`

    Args:
        num_classes: of the checkpoint: 21 for Pascal VOC; 151 for ADE20K, where class 0 is what has no label.
        variant: of ConvNeXt, `tiny` or `small`.
        width: channels of the first stage.
        channels: of the head.
        drop_path: rate of stochastic depth in the last block, in training only; SEA's code has 0.4 for `tiny`, 0.3 for
            `small`.
        weights: `checkpoint` and `sha256`, see `PublishedNetwork`.

    Raises:
        OSError: the checkpoint cannot be opened.
        ValueError: an unknown variant; or a checkpoint that holds something else, or has another hash.
    """

    format: ClassVar[Format] = Format(
        name="nmndeep/Robust-Segmentation, UPerNet",
        ignored={"auxiliary_head.": "a second head on the third stage, whose loss helps the training"},
    )
    backbone_prefixes: ClassVar[Mapping[str, str]] = {"backbone.": ""}
    new_in_backbone: ClassVar[tuple[str, ...]] = ("norm0.", "norm1.", "norm2.", "norm3.")

    def __init__(
        self,
        num_classes: int,
        *,
        variant: Variant = "tiny",
        width: int = 96,
        channels: int = 512,
        drop_path: float = 0.0,
        **weights: Any,
    ) -> None:
        if variant not in _DEPTHS:
            raise ValueError(f"variant must be one of {', '.join(_DEPTHS)}, got {variant!r}")
        widths = tuple(width * 2**i for i in range(4))
        core = EncoderDecoder(_ConvNeXt(widths, _DEPTHS[variant], drop_path), _UPerHead(num_classes, widths, channels))
        super().__init__(core, normalized=False, num_classes=num_classes, **weights)


class _ConvNeXt(nn.Module):
    """`(B, 3, H, W)` -> normalised maps of `widths` channels at strides 4, 8, 16 and 32."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], drop_path: float) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList([_ConvStem(widths[0])])
        for before, after in itertools.pairwise(widths):
            self.downsample_layers.append(
                nn.Sequential(LayerNorm2d(before, eps=_EPS), nn.Conv2d(before, after, 2, stride=2))
            )
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(width, next(rates)) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        self.norm0, self.norm1, self.norm2, self.norm3 = (LayerNorm2d(width, eps=_EPS) for width in widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        features = images
        norms = (self.norm0, self.norm1, self.norm2, self.norm3)
        for downsample, stage, norm in zip(self.downsample_layers, self.stages, norms, strict=True):
            features = stage(downsample(features))
            maps.append(norm(features))
        return maps


class _ConvStem(nn.Module):
    """Two strided convolutions in place of patches of 4x4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 2
        self.stem = nn.Sequential(
            nn.Conv2d(3, inner, 3, stride=2, padding=1),
            LayerNorm2d(inner, eps=_EPS),
            nn.GELU(),
            nn.Conv2d(inner, width, 3, stride=2, padding=1),
            LayerNorm2d(width, eps=_EPS),
            nn.GELU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.stem(images)
        return features


class _Block(nn.Module):
    """A 7x7 convolution channel by channel, and a feed-forward network at each pixel, around a residual connection."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))
        self.drop_path = DropPath(drop_path)

    def forward(self, features: Tensor) -> Tensor:
        pixels = self.norm(self.dwconv(features).permute(0, 2, 3, 1))
        pixels = self.gamma * self.pwconv2(self.act(self.pwconv1(pixels)))
        moved: Tensor = features + self.drop_path(pixels.permute(0, 3, 1, 2))
        return moved


class _UPerHead(nn.Module):
    """Pyramid pooling of the last map, and a feature pyramid down to the first: four maps -> logits at stride 4."""

    def __init__(self, num_classes: int, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        scales = len(PyramidPooling.scales)
        self.psp_modules = PyramidPooling(widths[-1], channels, norm_name="batch_norm")
        self.bottleneck = _conv(widths[-1] + scales * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(_conv(width, channels) for width in widths[:-1])
        self.fpn_convs = nn.ModuleList(_conv(channels, channels, 3) for _ in widths[:-1])
        self.fpn_bottleneck = _conv(len(widths) * channels, channels, 3)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        levels = [conv(features) for conv, features in zip(self.lateral_convs, maps[:-1], strict=True)]
        levels.append(self.bottleneck(self.psp_modules(maps[-1])))
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + resize(levels[i], levels[i - 1])
        levels = [*(conv(level) for conv, level in zip(self.fpn_convs, levels[:-1], strict=True)), levels[-1]]
        joined = torch.cat([levels[0], *(resize(level, levels[0]) for level in levels[1:])], dim=1)
        logits: Tensor = self.classifier(self.fpn_bottleneck(joined))
        return logits


def _conv(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    return conv_norm_relu(in_channels, out_channels, kernel_size, norm_name="batch_norm")
