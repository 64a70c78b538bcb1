"""Networks that classify masks of queries: MaskFormer, Mask2Former, OneFormer, EoMT and the panoptic head of DETR."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from segrobust.functional.network_outputs import entries_of, listed
from segrobust.functional.query_logits import query_logits, resize_exponentials
from segrobust.networks.network_wrapper import NetworkWrapper
from segrobust.networks.outputs import query_names, require_name, shown_output

ProductSize: TypeAlias = Literal["image", "masks"] | Sequence[int]
"""Where probabilities of classes and masks are multiplied: at the size of the image, of the masks, or `(h, w)`."""

_VALUES_OF_BLOCK = 1 << 24
"""Terms of an image that are computed together: 64 MiB in float32."""


class QueryNetwork(NetworkWrapper):
    """A network that classifies masks of queries, as one that gives a logit of every class at every pixel.

    Such a network gives Q masks `m_q` and for each of them logits `c_q` of K classes and "no object". Its published
    prediction is the class of the largest score `S_k(i) = sum_q softmax(c_q)_k * sigmoid(m_q(i))`. Attacks must not
    have S: products of probabilities saturate, so that gradients vanish where the network is sure, and underflow, so
    that all classes tie, which counts as unbroken whatever the prediction. The logits given here are
    `ln S = logsumexp_q(log_softmax(c_q)_k + logsigmoid(m_q(i)))`: the same prediction, margins in log-odds, and a
    softmax that is S over its sum. Memory does not grow with the number of queries.

    Where the product is taken decides some pixels near borders. The original code of all these networks upsamples the
    mask logits to the size of the image first; so does "image". The post-processing of transformers multiplies at
    `(384, 384)` for Mask2Former, at the masks' own size for MaskFormer, OneFormer and DETR, and resizes the scores S;
    sizes other than "image" do so too.

    Args:
        network: maps images `(B, C, H, W)` to class logits `(B, Q, K + 1)`, "no object" last, and mask logits
            `(B, Q, h, w)`, under the names of transformers or of the original code (`pred_logits`, `pred_masks`).
        product_size: "image", "masks" or a height and width, see above.
        output: a named function that gives class logits and mask logits of what the network returns, for other names.

    Raises:
        TypeError: `network` is not an `nn.Module`, or `output` is not a function.
        ValueError: another `product_size`, or `output` without a name.
    """

    def __init__(
        self,
        network: nn.Module,
        product_size: ProductSize = "image",
        output: Callable[[object], object] | None = None,
    ) -> None:
        super().__init__(network)
        if output is not None:
            if not callable(output):
                raise TypeError(f"output must be a function that gives class and mask logits, got {output!r}")
            require_name(output)
        self.product_size = _check_product_size(product_size)
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """Gives ln S at the size of the images, float32 (float64 is kept): `(B, C, H, W) -> (B, K, H, W)`.

        Raises:
            TypeError: the output holds no logits of queries.
            ValueError: logits of other shapes.
        """
        classes, masks = self._select(self.network(images))
        _check_shapes(classes, masks, len(images))
        classes, masks = (part if part.dtype == torch.float64 else part.float() for part in (classes, masks))
        height, width = self._find_size(images, masks)
        block = max(_VALUES_OF_BLOCK // ((classes.shape[2] - 1) * height * width), 1)
        logits = query_logits(classes, masks, (height, width), block=block)
        return resize_exponentials(logits, (images.shape[2], images.shape[3]))

    def extra_repr(self) -> str:
        """Shows the settings that the logits depend on."""
        return f"product_size={self.product_size}, output={shown_output(self.output)}"

    def _find_size(self, images: Tensor, masks: Tensor) -> tuple[int, int]:
        """Height and width at which probabilities are multiplied."""
        if not isinstance(self.product_size, str):
            return self.product_size
        height, width = (images if self.product_size == "image" else masks).shape[2:]
        return height, width

    def _select(self, result: object) -> tuple[Tensor, Tensor]:
        """Class logits and mask logits of what the network returned."""
        if self.output is not None:
            found = self.output(result)
            where = f"output={shown_output(self.output)} must give class logits and mask logits, two tensors"
        else:
            entries = {} if isinstance(result, Tensor) else entries_of(result)
            names = query_names(entries)
            found = None if names is None else tuple(entries[name] for name in names)
            where = (
                f"QueryNetwork looks for pred_logits and pred_masks, or the names of transformers; give output= a "
                f"function that gives class and mask logits of other names. The network returned {_shown(result)}"
            )
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise TypeError(where if self.output is None else f"{where}, got {type(found).__name__}")
        for part in found:
            if not isinstance(part, Tensor) or not part.is_floating_point():
                raise TypeError(f"class and mask logits must be floating-point tensors, got {listed({'both': found})}")
        return found[0], found[1]


def _shown(result: object) -> str:
    """What a network returned, for messages."""
    if isinstance(result, Tensor):
        return f"a tensor {tuple(result.shape)}: if these are logits, take FullResolution"
    return f"a {type(result).__name__} with {listed(entries_of(result))}"


def _check_shapes(classes: Tensor, masks: Tensor, batch: int) -> None:
    """Raises ValueError unless these are `(B, Q, K + 1)` and `(B, Q, h, w)`."""
    fits = classes.ndim == 3 and masks.ndim == 4 and classes.shape[:2] == masks.shape[:2] and len(classes) == batch
    got = f"class logits {tuple(classes.shape)} and mask logits {tuple(masks.shape)}"
    if not fits:
        raise ValueError(f"expected class logits ({batch}, Q, K + 1) and mask logits ({batch}, Q, h, w), got {got}")
    if classes.shape[2] < 3:
        raise ValueError(
            f"expected at least two classes and 'no object', got {got}: the score of a single class has no rival"
        )


def _check_product_size(size: object) -> Literal["image", "masks"] | tuple[int, int]:
    """Gives the setting back, a pair as a tuple."""
    if size == "image" or size == "masks":
        return size
    if (
        isinstance(size, Sequence)
        and not isinstance(size, str)
        and len(size) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in size)
    ):
        return size[0], size[1]
    raise ValueError(f"product_size must be 'image', 'masks' or (height, width) in pixels, got {size!r}")
