"""FCN on HRNetV2 as mmsegmentation trains it.

Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from segrobust.networks.published.layers import conv_norm_relu, resize
from segrobust.networks.published.mmseg import MMSegNetwork

_NUM_MODULES = (1, 4, 3)
_NUM_BLOCKS = 4
_EXPANSION = 4


class MMSegFCNHRNet(MMSegNetwork):
    """FCN-HRNetV2 in the format of mmsegmentation, at images of any size.

    `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, num_classes, H, W)`

    Args:
        num_classes: of the checkpoint.
        widths: channels of the four resolutions; W48 by default.
        stem_width: channels of the stem, and inner channels of the first stage.
        weights: `checkpoint` and `sha256`, see `PublishedNetwork`.

    Raises:
        OSError: the checkpoint cannot be opened.
        ValueError: it holds something else, or has another hash.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        widths: tuple[int, int, int, int] = (48, 96, 192, 384),
        stem_width: int = 64,
        **weights: Any,
    ) -> None:
        backbone, head = HRNet(widths, stem_width), _FCNHead(num_classes, sum(widths))
        super().__init__(backbone, head, num_classes=num_classes, **weights)


class HRNet(nn.Module):
    """Four resolutions side by side: `(B, 3, H, W)` -> maps of `widths` channels at strides 4, 8, 16 and 32.

    Args:
        widths: channels of the four resolutions.
        stem_width: channels of the stem, and inner channels of the first stage.
    """

    def __init__(self, widths: Sequence[int], stem_width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem_width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.conv2 = nn.Conv2d(stem_width, stem_width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem_width)
        self.relu = nn.ReLU()
        first = stem_width * _EXPANSION
        shortcut = nn.Sequential(nn.Conv2d(stem_width, first, 1, bias=False), nn.BatchNorm2d(first))
        self.layer1 = nn.Sequential(
            Bottleneck(stem_width, stem_width, downsample=shortcut),
            *(Bottleneck(first, stem_width) for _ in range(_NUM_BLOCKS - 1)),
        )
        self.transition1 = _transition([first], widths[:2])
        self.stage2 = nn.Sequential(*(_Exchange(widths[:2]) for _ in range(_NUM_MODULES[0])))
        self.transition2 = _transition(widths[:2], widths[:3])
        self.stage3 = nn.Sequential(*(_Exchange(widths[:3]) for _ in range(_NUM_MODULES[1])))
        self.transition3 = _transition(widths[:3], widths)
        self.stage4 = nn.Sequential(*(_Exchange(widths) for _ in range(_NUM_MODULES[2])))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Gives the maps of the four resolutions, the finest first."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer1(self.relu(self.bn2(self.conv2(features))))
        maps = [features]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            # A new resolution begins from the coarsest before it.
            maps = [layer(maps[i] if i < len(maps) else maps[-1]) for i, layer in enumerate(transition)]
            maps = stage(maps)
        return maps


class _Exchange(nn.Module):
    """Residual blocks at each resolution, then the sum of all at each."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(_NUM_BLOCKS))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_bridge(widths, source=j, target=i) for j in range(len(widths))) for i in range(len(widths))
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        maps = [branch(features) for branch, features in zip(self.branches, maps, strict=True)]
        each = range(len(maps))
        return [F.relu(sum((self._bridged(maps, i, j) for j in each[1:]), self._bridged(maps, i, 0))) for i in each]

    def _bridged(self, maps: Sequence[Tensor], target: int, source: int) -> Tensor:
        features: Tensor = cast(nn.ModuleList, self.fuse_layers[target])[source](maps[source])
        if source <= target:
            return features
        # First by the whole factor, then to the size, which differ where a side is odd: as mmsegmentation does.
        factor = 2 ** (source - target)
        features = F.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False)
        return resize(features, maps[target])


def _bridge(widths: Sequence[int], *, source: int, target: int) -> nn.Module:
    """Makes what carries a map to another resolution: a projection upwards, strided convolutions downwards."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(nn.Conv2d(widths[source], widths[target], 1, bias=False), nn.BatchNorm2d(widths[target]))
    steps = [_strided(widths[source], widths[source], relu=True) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, _strided(widths[source], widths[target], relu=False))


def _strided(in_channels: int, out_channels: int, *, relu: bool, stride: int = 2) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *([nn.ReLU()] if relu else []))


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Makes what adapts the maps of one stage to the next, which has one resolution more."""
    layers: list[nn.Module] = [
        nn.Identity() if old == new else _strided(old, new, relu=True, stride=1)
        for old, new in zip(before, after, strict=False)
    ]
    return nn.ModuleList([*layers, nn.Sequential(_strided(before[-1], after[-1], relu=True))])


class _FCNHead(nn.Module):
    """All maps at the finest resolution, projected: four maps -> logits at stride 4."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv_norm_relu(channels, channels))
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        joined = torch.cat([maps[0], *(resize(features, maps[0]) for features in maps[1:])], dim=1)
        return cast(Tensor, self.conv_seg(self.convs(joined)))
