"""Pieces that several published architectures share, under the names that their checkpoints use."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    norm_name: str = "bn",
) -> nn.Sequential:
    """Makes `conv`, batch normalisation under `norm_name`, ReLU: `(B, in, H, W) -> (B, out, H, W)`."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, groups=groups, bias=False
    )
    return nn.Sequential(OrderedDict({"conv": conv, norm_name: nn.BatchNorm2d(out_channels), "activate": nn.ReLU()}))


def separable_conv(in_channels: int, out_channels: int, *, dilation: int = 1) -> nn.Sequential:
    """Makes a 3x3 convolution channel by channel and a 1x1 convolution, each with normalisation and ReLU."""
    depthwise = conv_norm_relu(in_channels, in_channels, 3, dilation=dilation, groups=in_channels)
    return nn.Sequential(
        OrderedDict(depthwise_conv=depthwise, pointwise_conv=conv_norm_relu(in_channels, out_channels))
    )


def resize(features: Tensor, like: Tensor, *, align_corners: bool = False) -> Tensor:
    """Interpolates bilinearly to the height and width of `like`."""
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=align_corners)


class PyramidPooling(nn.ModuleList):
    """Averages over coarse grids, each projected, resized and put behind the features (Zhao et al., CVPR 2017).

    `(B, C, H, W) -> (B, C + 4 * channels, H, W)`
    """

    scales = (1, 2, 3, 6)

    def __init__(self, in_channels: int, channels: int, *, norm_name: str = "bn") -> None:
        super().__init__(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), conv_norm_relu(in_channels, channels, norm_name=norm_name))
            for scale in self.scales
        )

    def forward(self, features: Tensor) -> Tensor:
        """Gives the features and their pooled versions, in this order."""
        return torch.cat([features, *(resize(pool(features), features) for pool in self)], dim=1)


class EncoderDecoder(nn.Module):
    """A backbone and a head, as mmsegmentation names them.

    Args:
        backbone: maps images to one map per stage.
        decode_head: maps these to logits.
    """

    def __init__(self, backbone: nn.Module, decode_head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = decode_head

    def forward(self, images: Tensor) -> Tensor:
        """Gives the logits at the resolution of the head."""
        logits: Tensor = self.decode_head(self.backbone(images))
        return logits
