"""PSPNet and DeepLabV3 in the format of hszhao/semseg, which DDC-AT and the PSPNet of PIR-AT have.

All interpolation is with aligned corners. The original takes sides of 8 n + 1 only, for which the result is the same.
The logits of DDC-AT are those of its main head at inference, as in the released code; its two other heads take part in
training alone.

Sources: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017; Chen et al., "Rethinking Atrous Convolution for
Semantic Image Segmentation", 2017; Xu et al., "Dynamic Divide-and-Conquer Adversarial Training for Robust Semantic
Segmentation", ICCV 2021 (DDC-AT); Croce, Singh and Hein, ECCV 2024 (PIR-AT).
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from segrobust.networks.published.layers import PyramidPooling, conv_norm_relu, resize
from segrobust.networks.published.published_network import Format, PublishedNetwork
from segrobust.networks.published.resnet import Depth, Stem, residual_stages, stem_layers, stem_pooling

SEMSEG: Final = Format(
    name="hszhao/semseg",
    ignored={
        "aux.": "a second head on the third stage, whose loss helps the training",
        "aux_cls1.": "the same in DDC-AT",
        "cls2.": "DDC-AT's head for attacked pixels, which only its training asks",
        "mask1.": "DDC-AT's choice between its heads, which only its training asks",
    },
    renamed={"cls1.": "cls."},
)

_ATROUS_RATES: Final = (6, 12, 18)


class _SemsegNetwork(PublishedNetwork):
    format: ClassVar[Format] = SEMSEG
    backbone_prefixes: ClassVar[Mapping[str, str]] = {
        **{f"layer0.{3 * i}.": f"conv{i + 1}." for i in range(3)},
        **{f"layer0.{3 * i + 1}.": f"bn{i + 1}." for i in range(3)},
        **{f"layer{i}.": f"layer{i}." for i in range(1, 5)},
    }

    def __init__(
        self,
        make_core: Callable[[int, Depth, Stem, int, int], nn.Module],
        num_classes: int,
        *,
        channels: int,
        depth: Depth = 50,
        stem: Stem = "deep",
        normalized: bool = True,
        width: int = 64,
        **weights: Any,
    ) -> None:
        core = make_core(num_classes, depth, stem, width, channels)
        super().__init__(core, normalized=normalized, num_classes=num_classes, **weights)


class SemsegPSPNet(_SemsegNetwork):
    """PSPNet in the format of hszhao/semseg: `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, num_classes, H, W)`.

    Args:
        num_classes: of the checkpoint.
        channels: of the head.
        settings: `depth` of the ResNet, 50 or 101; `stem`, `deep` (hszhao/semseg, DDC-AT) or `plain` (PIR-AT);
            `normalized`, whether ImageNet's mean is subtracted and its standard deviation divided by: true for DDC-AT,
            false for PIR-AT; `width`, inner channels of the first stage; `checkpoint` and `sha256`, see
            `PublishedNetwork`.

    Raises:
        OSError: the checkpoint cannot be opened.
        ValueError: it holds something else, or has another hash.
    """

    def __init__(self, num_classes: int, *, channels: int = 512, **settings: Any) -> None:
        super().__init__(_PSPNet, num_classes, channels=channels, **settings)


class SemsegDeepLabV3(_SemsegNetwork):
    """DeepLabV3 in the format of hszhao/semseg: `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, num_classes, H, W)`.

    Args:
        num_classes: of the checkpoint.
        channels: of the head.
        settings: see `SemsegPSPNet`.

    Raises:
        OSError: the checkpoint cannot be opened.
        ValueError: it holds something else, or has another hash.
    """

    def __init__(self, num_classes: int, *, channels: int = 256, **settings: Any) -> None:
        super().__init__(_DeepLabV3, num_classes, channels=channels, **settings)


class _Backbone(nn.Module):
    """The ResNet in five layers of the network itself: images -> 32 `width` channels at stride 8."""

    def __init__(self, depth: Depth, stem: Stem, width: int) -> None:
        super().__init__()
        stem_width = 2 * width if stem == "deep" else width
        self.layer0 = nn.Sequential(*stem_layers(stem, width, stem_width), stem_pooling())
        self.layer1, self.layer2, self.layer3, self.layer4 = residual_stages(depth, stem_width, width, contract=False)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(images)))))
        return features


class _PSPNet(_Backbone):
    def __init__(self, num_classes: int, depth: Depth, stem: Stem, width: int, channels: int) -> None:
        super().__init__(depth, stem, width)
        self.ppm = _PyramidPooling(32 * width)
        self.cls = _classifier(64 * width, channels, num_classes, kernel_size=3)

    def forward(self, images: Tensor) -> Tensor:
        return resize(self.cls(self.ppm(self.features(images))), images, align_corners=True)


class _DeepLabV3(_Backbone):
    def __init__(self, num_classes: int, depth: Depth, stem: Stem, width: int, channels: int) -> None:
        super().__init__(depth, stem, width)
        self.aspp = _ASPP(32 * width, channels)
        self.cls = _classifier((2 + len(_ATROUS_RATES)) * channels, channels, num_classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        return resize(self.cls(self.aspp(self.features(images))), images, align_corners=True)


class _PyramidPooling(nn.Module):
    """`(B, C, h, w) -> (B, 2 * C, h, w)`."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        scales = PyramidPooling.scales
        channels = in_channels // len(scales)
        self.features = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), *conv_norm_relu(in_channels, channels)) for scale in scales
        )

    def forward(self, features: Tensor) -> Tensor:
        pooled = [resize(pool(features), features, align_corners=True) for pool in self.features]
        return torch.cat([features, *pooled], dim=1)


class _ASPP(nn.Module):
    """Context at five scales: `(B, C, h, w) -> (B, 5 * channels, h, w)`."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*conv_norm_relu(in_channels, channels)),
                *(nn.Sequential(*conv_norm_relu(in_channels, channels, 3, dilation=rate)) for rate in _ATROUS_RATES),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_norm_relu(in_channels, channels)),
            ]
        )

    def forward(self, features: Tensor) -> Tensor:
        pooled = resize(self.convs[-1](features), features, align_corners=True)
        return torch.cat([*(conv(features) for conv in self.convs[:-1]), pooled], dim=1)


def _classifier(in_channels: int, channels: int, num_classes: int, *, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm_relu(in_channels, channels, kernel_size), nn.Dropout2d(0.1), nn.Conv2d(channels, num_classes, 1)
    )
