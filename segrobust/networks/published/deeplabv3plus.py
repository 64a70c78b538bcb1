"""DeepLabV3+ as mmsegmentation trains it.

Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation", ECCV 2018.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segrobust.networks.published.layers import conv_norm_relu, resize, separable_conv
from segrobust.networks.published.mmseg import MMSegNetwork
from segrobust.networks.published.resnet import Depth, DilatedResNet, Stem

_DILATIONS = (12, 24, 36)


class MMSegDeepLabV3Plus(MMSegNetwork):
    """DeepLabV3+ R50-D8 or R101-D8 in the format of mmsegmentation, at images of any size.

    `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, num_classes, H, W)`

    Args:
        num_classes: of the checkpoint.
        depth: of the ResNet, 50 or 101.
        stem: `deep` (ResNetV1c, files named `r50-d8`), or `plain` (`r50b-d8`).
        width: channels behind the stem.
        channels: of the head.
        low_channels: to which the head projects the first stage.
        weights: `checkpoint` and `sha256`, see `PublishedNetwork`.

    Raises:
        OSError: the checkpoint cannot be opened.
        ValueError: it holds something else, or has another hash.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        depth: Depth = 50,
        stem: Stem = "deep",
        width: int = 64,
        channels: int = 512,
        low_channels: int = 48,
        **weights: Any,
    ) -> None:
        head = _SeparableASPPHead(num_classes, 4 * width, 32 * width, channels, low_channels)
        backbone = DilatedResNet(depth, stem=stem, width=width)
        super().__init__(backbone, head, num_classes=num_classes, **weights)


class _SeparableASPPHead(nn.Module):
    """Context at five scales from the last stage, refined by the first: four maps -> logits at stride 4."""

    def __init__(self, num_classes: int, low_in: int, high_in: int, channels: int, low_channels: int) -> None:
        super().__init__()
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_norm_relu(high_in, channels))
        self.aspp_modules = nn.ModuleList(
            [
                conv_norm_relu(high_in, channels),
                *(separable_conv(high_in, channels, dilation=dilation) for dilation in _DILATIONS),
            ]
        )
        self.bottleneck = conv_norm_relu((2 + len(_DILATIONS)) * channels, channels, 3)
        self.c1_bottleneck = conv_norm_relu(low_in, low_channels)
        self.sep_bottleneck = nn.Sequential(
            separable_conv(channels + low_channels, channels), separable_conv(channels, channels)
        )
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        first, last = stages[0], stages[-1]
        context = [resize(self.image_pool(last), last), *(branch(last) for branch in self.aspp_modules)]
        features = self.bottleneck(torch.cat(context, dim=1))
        low = self.c1_bottleneck(first)
        features = self.sep_bottleneck(torch.cat([resize(features, low), low], dim=1))
        logits: Tensor = self.conv_seg(self.dropout(features))
        return logits
