"""PSPNet as mmsegmentation trains it; that of hszhao/semseg is in `semseg`.

Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from segrobust.networks.published.layers import PyramidPooling, conv_norm_relu
from segrobust.networks.published.mmseg import MMSegNetwork
from segrobust.networks.published.resnet import Depth, DilatedResNet, Stem


class MMSegPSPNet(MMSegNetwork):
    """PSPNet R50-D8 or R101-D8 in the format of mmsegmentation, at images of any size.

    `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, num_classes, H, W)`

    Args:
        num_classes: of the checkpoint.
        depth: of the ResNet, 50 or 101.
        stem: `deep` (ResNetV1c, files named `r50-d8`), or `plain` (`r50b-d8`).
        width: channels behind the stem.
        channels: of the head.
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
        **weights: Any,
    ) -> None:
        backbone = DilatedResNet(depth, stem=stem, width=width)
        head = _PSPHead(num_classes, 32 * width, channels)
        super().__init__(backbone, head, num_classes=num_classes, **weights)


class _PSPHead(nn.Module):
    """Four maps, of which the last counts -> logits at stride 8."""

    def __init__(self, num_classes: int, in_channels: int, channels: int) -> None:
        super().__init__()
        self.psp_modules = PyramidPooling(in_channels, channels)
        self.bottleneck = conv_norm_relu(in_channels + len(PyramidPooling.scales) * channels, channels, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.conv_seg(self.dropout(self.bottleneck(self.psp_modules(stages[-1]))))
        return logits
