"""Which of the pixel constraints count when a share of the pixels may stay unbroken."""

import torch
from torch import Tensor


def discard_hardest(constraints: Tensor, valid_mask: Tensor, num_discarded: Tensor, max_discarded: int) -> Tensor:
    """Mask of the constraints that stay when the hardest of each image are discarded.

    With xi the k-th largest constraint over the valid pixels: `valid & (c <= xi)`; k = 0 keeps every valid pixel. The
    k-th itself stays, so k - 1 constraints are discarded (up to ties), as in the published algorithm.

    Args:
        constraints: `(B, H, W)`, larger is harder.
        valid_mask: `(B, H, W)` bool.
        num_discarded: `(B,)` int64, k of each image, at most its number of valid pixels.
        max_discarded: upper bound of k over the batch, known without asking the device.

    Returns:
        `(B, H, W)` bool.

    Source: Rony et al., CVPR 2023 (constraint masking).

    Examples:
        >>> constraints = torch.tensor([[[0.1, 0.4, 0.2, 0.3]]])
        >>> valid_mask = torch.ones(1, 1, 4, dtype=torch.bool)
        >>> discard_hardest(constraints, valid_mask, torch.tensor([2]), max_discarded=2)
        tensor([[[ True, False,  True,  True]]])
    """
    if max_discarded == 0:
        return valid_mask
    ordered = torch.where(valid_mask, constraints, -torch.inf).flatten(1).topk(max_discarded, dim=1).values
    kth = ordered.gather(1, (num_discarded - 1).clamp_min(0)[:, None])[:, :, None]
    keep_all = (num_discarded == 0)[:, None, None]
    return valid_mask & ((constraints <= kth) | keep_all)
