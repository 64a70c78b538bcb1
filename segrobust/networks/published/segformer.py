"""SegFormer as mmsegmentation trains it.

The head differs from that of the paper's own code and of `transformers`: each stage's projection is followed by batch
normalisation and ReLU, and the stages are joined from the finest to the coarsest.

Source: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers", NeurIPS 2021.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from segrobust.networks.published.layers import conv_norm_relu, resize
from segrobust.networks.published.mmseg import MMSegNetwork

Variant: TypeAlias = Literal["b0", "b1", "b2", "b3", "b4", "b5"]

_WIDTHS: Final = {"b0": 32, "b1": 64, "b2": 64, "b3": 64, "b4": 64, "b5": 64}
_DEPTHS: Final = {
    "b0": (2, 2, 2, 2),
    "b1": (2, 2, 2, 2),
    "b2": (3, 4, 6, 3),
    "b3": (3, 4, 18, 3),
    "b4": (3, 8, 27, 3),
    "b5": (3, 6, 40, 3),
}
_HEADS: Final = (1, 2, 5, 8)
_REDUCTIONS: Final = (8, 4, 2, 1)
_MLP_RATIO: Final = 4
_EPS: Final = 1e-6


class MMSegSegFormer(MMSegNetwork):
    """SegFormer in the format of mmsegmentation, at images of any size.

    `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, num_classes, H, W)`

    Args:
        num_classes: of the checkpoint.
        variant: of the Mix Transformer, `b0` to `b5`.
        width: channels of the first stage; those of the variant if None.
        channels: of the head.
        weights: `checkpoint` and `sha256`, see `PublishedNetwork`.

    Raises:
        OSError: the checkpoint cannot be opened.
        ValueError: an unknown variant; or a checkpoint that holds something else, or has another hash.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        variant: Variant = "b0",
        width: int | None = None,
        channels: int = 256,
        **weights: Any,
    ) -> None:
        if variant not in _DEPTHS:
            raise ValueError(f"variant must be one of {', '.join(_DEPTHS)}, got {variant!r}")
        widths = tuple((width or _WIDTHS[variant]) * heads for heads in _HEADS)
        backbone = _MixTransformer(widths, _DEPTHS[variant])
        head = _SegFormerHead(num_classes, widths, channels)
        super().__init__(backbone, head, num_classes=num_classes, **weights)


class _MixTransformer(nn.Module):
    """`(B, 3, H, W)` -> maps of `widths` channels at strides 4, 8, 16 and 32."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        stages = []
        before = 3
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = nn.ModuleList(_Block(width, _HEADS[i], _REDUCTIONS[i]) for _ in range(depth))
            embedding = _PatchEmbedding(before, width, kernel_size=7 if i == 0 else 3, stride=4 if i == 0 else 2)
            stages.append(nn.ModuleList([embedding, blocks, nn.LayerNorm(width, eps=_EPS)]))
            before = width
        self.layers = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        features = images
        for stage in self.layers:
            embedding, blocks, norm = cast(nn.ModuleList, stage)
            tokens, size = embedding(features)
            for block in cast(nn.ModuleList, blocks):
                tokens = block(tokens, size)
            features = _to_map(norm(tokens), size)
            maps.append(features)
        return maps


class _PatchEmbedding(nn.Module):
    """Overlapping patches: a map -> tokens `(B, N, C)` and their grid."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(out_channels, eps=_EPS)

    def forward(self, features: Tensor) -> tuple[Tensor, tuple[int, int]]:
        features = self.projection(features)
        return self.norm(_to_tokens(features)), (features.shape[-2], features.shape[-1])


class _Block(nn.Module):
    """Attention to a coarser grid and a convolutional feed-forward network, each around a residual connection."""

    def __init__(self, width: int, num_heads: int, reduction: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = _ReducedAttention(width, num_heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.ffn = _MixFeedForward(width)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        attended: Tensor = tokens + self.attn(self.norm1(tokens), size)
        return attended + cast(Tensor, self.ffn(self.norm2(attended), size))


class _ReducedAttention(nn.Module):
    def __init__(self, width: int, num_heads: int, reduction: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.reduction = reduction
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width, eps=_EPS)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        seen = tokens
        if self.reduction > 1:
            seen = self.norm(_to_tokens(self.sr(_to_map(tokens, size))))
        return cast(Tensor, self.attn(tokens, seen, seen, need_weights=False)[0])


class _MixFeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        inner = _MLP_RATIO * width
        self.layers = nn.Sequential(
            nn.Conv2d(width, inner, 1),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner),
            nn.GELU(),
            nn.Identity(),  # a dropout of 0, which takes part in the numbering
            nn.Conv2d(inner, width, 1),
        )

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        return _to_tokens(self.layers(_to_map(tokens, size)))


class _SegFormerHead(nn.Module):
    """All stages projected to one width and joined at the finest resolution: four maps -> logits at stride 4."""

    def __init__(self, num_classes: int, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv_norm_relu(width, channels) for width in widths)
        self.fusion_conv = conv_norm_relu(channels * len(widths), channels)
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        joined = [resize(conv(features), maps[0]) for conv, features in zip(self.convs, maps, strict=True)]
        return cast(Tensor, self.conv_seg(self.dropout(self.fusion_conv(torch.cat(joined, dim=1)))))


def _to_tokens(features: Tensor) -> Tensor:
    """`(B, C, h, w) -> (B, h * w, C)`."""
    return features.flatten(2).transpose(1, 2)


def _to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """`(B, h * w, C) -> (B, C, h, w)`."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *size)
