"""CLIPSeg, which segments what a text says, as a network whose classes are fixed texts."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PromptedNetwork(nn.Module):
    """CLIPSeg with fixed texts: the logit of a class at a pixel is what the network gives for its text there.

    Images are resized to the square that the network takes, and logits back; both are differentiable. The call of
    transformers runs its image encoder without gradients, so that no attack could follow it: here it has them.

    Args:
        network: a `CLIPSegForImageSegmentation`.
        tokens: ids of the texts' tokens, `(K, L)`.
        attended: which of them are no padding, `(K, L)`.
        side: height and width of the images that the network gets, in pixels.
    """

    tokens: Tensor
    attended: Tensor

    def __init__(self, network: Any, tokens: Tensor, attended: Tensor, side: int) -> None:
        super().__init__()
        self.network = network
        self.side = side
        self.register_buffer("tokens", tokens, persistent=False)
        self.register_buffer("attended", attended, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Gives one logit per text: `(B, 3, H, W) -> (B, K, H, W)`."""
        count, size = len(self.tokens), images.shape[2:]
        if size != (self.side, self.side):
            images = F.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)
        clip = self.network.clip
        seen = clip.vision_model(images, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states
        levels = [seen[layer + 1].repeat_interleave(count, 0) for layer in self.network.extract_layers]
        with torch.no_grad():
            texts = clip.get_text_features(self.tokens, attention_mask=self.attended).pooler_output
        logits: Tensor = self.network.decoder(levels, texts.repeat(len(images), 1)).logits
        logits = logits.view(len(images), count, *logits.shape[-2:])
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        """Shows the size beside the network in `repr`."""
        return f"side={self.side}"
