"""Logits of a pixel's classes from the classes and masks of queries, and bilinear resizing of exponentials."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def query_logits(class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int], *, block: int) -> Tensor:
    """Logarithm of the class scores that a mask-classification network gives a pixel.

    The published score of class k at pixel i is `S_k(i) = sum over queries q of softmax(c_q)_k * sigmoid(m_q(i))`
    (Cheng et al., MaskFormer, 2021). This is `ln S`, computed as the log-sum-exp over queries of
    `log_softmax(c_q)_k + logsigmoid(m_q(i))`, which neither saturates nor underflows: its argmax is that of S, its
    margins are log-odds, and its softmax is S over the sum of S.

    Queries are taken in blocks, whose terms are computed again in the backward pass: memory grows with
    `block * K * H * W`, not with Q. Second derivatives are not available.

    Args:
        class_logits: `(B, Q, K + 1)`, c; the last class is "no object" and has no score.
        mask_logits: `(B, Q, h, w)`, m; upsampled bilinearly to `size` before the sigmoid.
        size: height and width of the result.
        block: queries that are taken together.

    Returns:
        `(B, K, H, W)`, never above ln Q.

    Examples:
        >>> classes = torch.tensor([[[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]])  # two queries, two classes and no object
        >>> masks = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
        >>> scores = (classes.softmax(-1)[..., :2] * masks.sigmoid().view(1, 2, 1)).sum(1)
        >>> torch.allclose(query_logits(classes, masks, (1, 1), block=1).exp().flatten(), scores.flatten())
        True
    """
    logits: Tensor = _LogOfSums.apply(class_logits.log_softmax(-1)[..., :-1], mask_logits, size, block)
    return logits


class _LogOfSums(torch.autograd.Function):
    """`ln sum_q exp(a_qk) sigmoid(m_q(i))` that keeps its inputs and its result, and no term of the sum."""

    @staticmethod
    def forward(ctx: Any, classes: Tensor, masks: Tensor, size: tuple[int, int], block: int) -> Tensor:
        total = classes.new_full((len(classes), classes.shape[2], *size), -torch.inf)
        for rows in _blocks(classes.shape[1], block):
            terms = _terms(classes[:, rows], _log_inside(masks[:, rows], size))
            total = torch.logaddexp(total, terms.logsumexp(1))
        ctx.save_for_backward(classes, masks, total)
        ctx.size, ctx.block = size, block
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        classes, masks, total = ctx.saved_tensors
        to_classes, to_masks = torch.empty_like(classes), torch.empty_like(masks)
        total = total.clamp_min(torch.finfo(total.dtype).min)  # -inf, of a class that is excluded, would give NaN
        for rows in _blocks(classes.shape[1], ctx.block):
            with torch.enable_grad():
                part = masks[:, rows].detach().requires_grad_()
                inside = _log_inside(part, ctx.size)
            due = (_terms(classes[:, rows], inside.detach()) - total[:, None]).exp_().mul_(cotangent[:, None])
            to_classes[:, rows] = due.sum((3, 4))
            (to_masks[:, rows],) = torch.autograd.grad(inside, part, due.sum(2))
        return to_classes, to_masks, None, None


def _blocks(count: int, block: int) -> list[slice]:
    """Consecutive queries."""
    return [slice(first, first + block) for first in range(0, count, block)]


def _log_inside(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Logarithm of the probability that a pixel is inside: `(B, q, h, w) -> (B, q, H, W)`."""
    if masks.shape[-2:] != size:
        masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    return F.logsigmoid(masks)


def _terms(classes: Tensor, inside: Tensor) -> Tensor:
    """Logarithm of each query's part of each score: `(B, q, K), (B, q, H, W) -> (B, q, K, H, W)`."""
    return classes[..., None, None] + inside[:, :, None]


def resize_exponentials(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logarithm of the bilinearly resized exponentials of logits (`align_corners=False`), without overflow.

    Args:
        logits: `(B, K, h, w)`.
        size: height and width of the result.

    Returns:
        `ln(interpolate(exp(logits), size))`: `(B, K, H, W)`.

    Examples:
        >>> logits = torch.tensor([0.0, -200.0]).view(1, 1, 1, 2)  # exp(-200) is 0 in float32
        >>> resize_exponentials(logits, (1, 4)).flatten()
        tensor([   0.0000,   -0.2877,   -1.3863, -200.0000])
    """
    for dim, length in ((2, size[0]), (3, size[1])):
        if logits.shape[dim] != length:
            logits = _resize_one(logits, dim, length)
    return logits


def _resize_one(logits: Tensor, dim: int, length: int) -> Tensor:
    """The same in one direction: each place is between two, of which the outermost counts twice at the border."""
    count = logits.shape[dim]
    places = ((torch.arange(length, dtype=torch.float64) + 0.5) * (count / length) - 0.5).clamp(0, count - 1)
    first = places.floor().long()
    share = (places - first).view([-1 if d == dim else 1 for d in range(logits.ndim)])
    low = logits.index_select(dim, first.to(logits.device))
    high = logits.index_select(dim, (first + 1).clamp_max(count - 1).to(logits.device))
    return torch.logaddexp(low + (-share).log1p().to(low), high + share.log().to(high))
