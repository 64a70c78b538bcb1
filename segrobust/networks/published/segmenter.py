"""Segmenter on ViT, as SEA's authors train it (PIR-AT), under the names of rstrudel/segmenter.

The network sees images in [0, 1] as they are: neither the code nor the file has a normalisation.

Sources: Strudel et al., "Segmenter: Transformer for Semantic Segmentation", ICCV 2021; Croce, Singh and Hein, ECCV
2024.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from segrobust.networks.published.published_network import Format, PublishedNetwork

_PATCH: Final = 16
_HEAD_WIDTH: Final = 64


class PIRATSegmenter(PublishedNetwork):
    """Segmenter ViT-S/16 with a mask transformer in the format of nmndeep/Robust-Segmentation, at images of any size.

    `(B, 3, H, W)` in [0, 1] -> float32 logits `(B, num_classes, H, W)`. Images are padded by zeros at the bottom and
    at the right to multiples of 16, and position embeddings are interpolated bilinearly, as in the original.

    Args:
        num_classes: of the checkpoint; 151 for ADE20K, where class 0 is what has no label.
        image_size: for which the position embeddings are stored, in pixels.
        width: channels of tokens, a multiple of 64.
        depth: blocks of the encoder.
        decoder_depth: blocks of the mask transformer.
        weights: `checkpoint` and `sha256`, see `PublishedNetwork`.

    Raises:
        OSError: the checkpoint cannot be opened.
        ValueError: a width that is no multiple of 64, an image size that is no multiple of 16; or a checkpoint that
            holds something else, or has another hash.
    """

    format: ClassVar[Format] = Format(
        name="nmndeep/Robust-Segmentation, Segmenter",
        ignored={"encoder.head.": "the classifier of ImageNet, which the decoder replaces"},
    )
    backbone_prefixes: ClassVar[Mapping[str, str]] = {"encoder.": ""}

    def __init__(
        self,
        num_classes: int,
        *,
        image_size: int = 512,
        width: int = 384,
        depth: int = 12,
        decoder_depth: int = 2,
        **weights: Any,
    ) -> None:
        if width % _HEAD_WIDTH or image_size % _PATCH:
            raise ValueError(
                f"width must be a multiple of {_HEAD_WIDTH}, image_size one of {_PATCH}; got {width} and {image_size}"
            )
        core = _Segmenter(
            _Encoder(image_size // _PATCH, width, depth), _MaskTransformer(num_classes, width, decoder_depth)
        )
        super().__init__(core, normalized=False, num_classes=num_classes, **weights)


class _Segmenter(nn.Module):
    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % _PATCH, 0, -height % _PATCH))
        grid = (padded.shape[-2] // _PATCH, padded.shape[-1] // _PATCH)
        masks: Tensor = self.decoder(self.encoder(padded), grid)
        masks = F.interpolate(masks, size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return masks[..., :height, :width]


class _Encoder(nn.Module):
    """ViT: `(B, 3, H, W)` -> tokens of the patches `(B, N, C)`."""

    def __init__(self, grid: int, width: int, depth: int) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, _PATCH, stride=_PATCH)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + grid * grid, width))
        self.blocks = nn.Sequential(*(_block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](images)
        positions = resize_positions(self.pos_embed, self.grid, (patches.shape[-2], patches.shape[-1]))
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        encoded: Tensor = self.norm(self.blocks(tokens + positions))
        return encoded[:, 1:]


class _MaskTransformer(nn.Module):
    """Tokens of patches and classes attend to each other; their products are the masks: `(B, N, C) -> (B, K, h, w)`."""

    def __init__(self, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.blocks = nn.Sequential(*(_block(width) for _ in range(depth)))
        self.cls_emb = nn.Parameter(0.02 * torch.randn(1, num_classes, width))
        self.proj_dec = nn.Linear(width, width)
        self.proj_patch = nn.Parameter(width**-0.5 * torch.randn(width, width))
        self.proj_classes = nn.Parameter(width**-0.5 * torch.randn(width, width))
        self.decoder_norm = nn.LayerNorm(width)
        self.mask_norm = nn.LayerNorm(num_classes)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        classes = self.cls_emb.expand(len(tokens), -1, -1)
        tokens = self.decoder_norm(self.blocks(torch.cat([self.proj_dec(tokens), classes], dim=1)))
        patches = _unit(tokens[:, : -self.num_classes] @ self.proj_patch)
        classes = _unit(tokens[:, -self.num_classes :] @ self.proj_classes)
        masks: Tensor = self.mask_norm(patches @ classes.transpose(1, 2))
        return masks.transpose(1, 2).reshape(len(masks), self.num_classes, *grid)


def resize_positions(embedding: Tensor, grid: int, size: tuple[int, int]) -> Tensor:
    """Interpolates position embeddings, all but the first: `(1, 1 + grid * grid, C) -> (1, 1 + h * w, C)`."""
    if size == (grid, grid):
        return embedding
    patches = embedding[:, 1:].transpose(1, 2).reshape(1, -1, grid, grid)
    resized = F.interpolate(patches, size=size, mode="bilinear", align_corners=False)
    return torch.cat([embedding[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def _block(width: int) -> Block:
    # torch's own layer norm, whose epsilon is 1e-5 as in the original; timm's default is 1e-6.
    return Block(width, width // _HEAD_WIDTH, qkv_bias=True, norm_layer=nn.LayerNorm)


def _unit(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / length
