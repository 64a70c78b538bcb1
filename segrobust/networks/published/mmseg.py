"""The format of mmsegmentation: `backbone.`, `decode_head.`, `auxiliary_head.`.

mmsegmentation normalises by (123.675, 116.28, 103.53) and (58.395, 57.12, 57.375) in RGB of 0 to 255, which are
ImageNet's statistics times 255, and resizes logits bilinearly without aligned corners. Its batch normalisation is
synchronised in training only, and has the same weights.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from segrobust.networks.published.layers import EncoderDecoder
from segrobust.networks.published.published_network import Format, PublishedNetwork

MMSEG = Format(
    name="mmsegmentation",
    ignored={"auxiliary_head.": "a second head on the third stage, whose loss helps the training"},
)


class MMSegNetwork(PublishedNetwork):
    """A backbone and a head in the format of mmsegmentation.

    Args:
        backbone: maps normalised images to one map per stage.
        decode_head: maps these to logits.
        num_classes: number of logits of a pixel.
        weights: `checkpoint` and `sha256`, see `PublishedNetwork`; the names of mmsegmentation's files end with the
            first eight digits of the hash.
    """

    format: ClassVar[Format] = MMSEG
    backbone_prefixes: ClassVar[Mapping[str, str]] = {"backbone.": ""}

    def __init__(
        self,
        backbone: nn.Module,
        decode_head: nn.Module,
        *,
        num_classes: int,
        **weights: Any,
    ) -> None:
        core = EncoderDecoder(backbone, decode_head)
        super().__init__(core, normalized=True, num_classes=num_classes, **weights)
