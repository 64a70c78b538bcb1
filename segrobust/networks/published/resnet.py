"""Residual networks with an output stride of 8, from torchvision's blocks, as segmentation libraries build them.

Sources: He et al., CVPR 2016; He et al., "Bag of tricks", CVPR 2019 (the deep stem, "v1c"); Yu et al., CVPR 2017
(dilation in place of strides).
"""

import itertools
from typing import Final, Literal, TypeAlias

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

Depth: TypeAlias = Literal[50, 101]
Stem: TypeAlias = Literal["deep", "plain"]

_BLOCKS: Final[dict[int, tuple[int, int, int, int]]] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_STRIDES: Final = (1, 2, 1, 1)
_DILATIONS: Final = (1, 1, 2, 4)
_EXPANSION: Final = 4


def stem_layers(stem: Stem, inner: int, out: int) -> list[nn.Module]:
    """Makes what comes before the pooling and has stride 2: convolutions, each with its norm and ReLU.

    Args:
        stem: `deep`, three 3x3 convolutions, or `plain`, one of 7x7.
        inner: channels between those of a deep stem.
        out: channels behind the stem.

    Raises:
        ValueError: another stem.
    """
    if stem == "plain":
        return [nn.Conv2d(3, out, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    if stem != "deep":
        raise ValueError(f"stem must be 'deep' (three 3x3 convolutions) or 'plain' (one of 7x7), got {stem!r}")
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise((3, inner, inner, out))):
        conv = nn.Conv2d(before, after, 3, stride=2 if i == 0 else 1, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    return layers


def stem_pooling() -> nn.Module:
    """Makes the pooling that halves the resolution behind a stem."""
    return nn.MaxPool2d(3, stride=2, padding=1)


def residual_stages(depth: int, in_channels: int, width: int, *, contract: bool) -> list[nn.Sequential]:
    """Makes the four stages, of 4, 8, 16 and 32 times `width` channels at strides 4, 8, 8, 8.

    Args:
        depth: of the ResNet.
        in_channels: what the stem gives.
        width: inner channels of the first stage.
        contract: the first block of a dilated stage has half of its dilation (mmsegmentation, torchvision); else all
            blocks are alike (hszhao/semseg).

    Raises:
        ValueError: there is no ResNet of this depth here.
    """
    if depth not in _BLOCKS:
        raise ValueError(f"depth must be one of {tuple(_BLOCKS)}, got {depth}")
    stages = []
    for i, (blocks, stride, dilation) in enumerate(zip(_BLOCKS[depth], _STRIDES, _DILATIONS, strict=True)):
        planes = width * 2**i
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, planes * _EXPANSION, 1, stride=stride, bias=False),
            nn.BatchNorm2d(planes * _EXPANSION),
        )
        first = max(dilation // 2, 1) if contract else dilation
        layers = [Bottleneck(in_channels, planes, stride, shortcut, dilation=first)]
        in_channels = planes * _EXPANSION
        layers += [Bottleneck(in_channels, planes, dilation=dilation) for _ in range(blocks - 1)]
        stages.append(nn.Sequential(*layers))
    return stages


class DilatedResNet(nn.Module):
    """ResNet of mmsegmentation with stride 8: "V1c" with a deep stem, or as torchvision's with a plain one.

    `(B, 3, H, W)` -> four maps of 4, 8, 16 and 32 times `width` channels at strides 4, 8, 8, 8.

    Args:
        depth: 50 or 101.
        stem: `deep`, or `plain`.
        width: channels behind the stem.
    """

    def __init__(self, depth: Depth = 50, *, stem: Stem = "deep", width: int = 64) -> None:
        super().__init__()
        layers = stem_layers(stem, width // 2, width)
        self._deep = stem == "deep"
        if self._deep:
            self.stem = nn.Sequential(*layers)
        else:
            self.conv1, self.bn1, self.relu = layers
        self.maxpool = stem_pooling()
        self.layer1, self.layer2, self.layer3, self.layer4 = residual_stages(depth, width, width, contract=True)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Gives the features of all stages."""
        features = self.stem(images) if self._deep else self.relu(self.bn1(self.conv1(images)))
        features = self.maxpool(features)
        outputs = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = stage(features)
            outputs.append(features)
        return tuple(outputs)
