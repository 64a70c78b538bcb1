"""Losses of every pixel: how far its prediction is from a reference class.

All are finite and have finite gradients for any finite logits, whatever the gap between them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, reference: Tensor) -> Tensor:
    """`-log p_r` with p the softmax: `(B, K, H, W), (B, H, W) -> (B, H, W)`.

    Examples:
        >>> logits = torch.zeros(1, 2, 1, 1)  # two classes of equal probability
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)
        >>> cross_entropy(logits, label)
        tensor([[[0.6931]]])
    """
    return F.cross_entropy(logits, reference, reduction="none")


def jensen_shannon(logits: Tensor, reference: Tensor) -> Tensor:
    """Jensen-Shannon divergence of softmax p and one-hot reference: `(B, K, H, W), (B, H, W) -> (B, H, W)`.

    `1/2 KL(p, m) + 1/2 KL(e_r, m)` with `m = (p + e_r) / 2`. A class other than r contributes `p_c log 2` to the first
    term, so that only p_r remains: `log 2 + (p_r log p_r - (1 + p_r) log(1 + p_r)) / 2`. In [0, log 2]; unlike the
    definition, this form has no logarithm of a probability that has underflowed to 0.

    Source: Croce, Singh and Hein, ECCV 2024 (SEA), section 3; closed form derived here.

    Examples:
        >>> logits = torch.zeros(1, 2, 1, 1)  # two classes of equal probability
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)
        >>> jensen_shannon(logits, label)
        tensor([[[0.2158]]])
    """
    log_p = -cross_entropy(logits, reference)
    p = log_p.exp()
    return math.log(2) + (p * log_p - (1 + p) * p.log1p()) / 2


def tsallis(logits: Tensor, reference: Tensor, q: float) -> Tensor:
    """Tsallis loss `(1 - p_r^(1 - q)) / (1 - q)`: `(B, K, H, W), (B, H, W) -> (B, H, W)`.

    Its gradient is that of the cross-entropy times `p_r^(1 - q)`: for q = 1 it is the cross-entropy, and the smaller q,
    the less pixels count whose reference class has lost its probability.

    Args:
        logits: `(B, K, H, W)`.
        reference: `(B, H, W)` int64.
        q: at most 1.

    Source: TsallisPGD (arXiv 2605.03405).

    Examples:
        >>> logits = torch.zeros(1, 2, 1, 1)  # two classes of equal probability
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)
        >>> tsallis(logits, label, q=0.5), tsallis(logits, label, q=1.0)  # the second is the cross-entropy
        (tensor([[[0.5858]]]), tensor([[[0.6931]]]))
    """
    loss = cross_entropy(logits, reference)
    return loss if q == 1 else -torch.expm1((q - 1) * loss) / (1 - q)


def softmax_probability(logits: Tensor, reference: Tensor, temperature: Tensor) -> Tensor:
    """`softmax(z / T)_r`, the softened indicator that the reference class wins.

    It tends to 1 where class r wins and to 0 where it loses as T goes to 0; its slope is at most `1 / (4 T)`, on the
    boundary of the class.

    Args:
        logits: `(B, K, H, W)`.
        reference: `(B, H, W)` int64.
        temperature: `(B,)`, T > 0 of each image, in logits.

    Returns:
        `(B, H, W)` in [0, 1].

    Examples:
        >>> logits = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)
        >>> softmax_probability(logits, label, torch.tensor([1.0]))
        tensor([[[0.7311]]])
        >>> softmax_probability(logits, label, torch.tensor([0.1]))
        tensor([[[1.0000]]])
    """
    below = logits - logits.detach().amax(1, keepdim=True)  # before the division, which could overflow
    return (-cross_entropy(below / temperature[:, None, None, None], reference)).exp()


def cosine_to_reference(scores: Tensor, reference: Tensor) -> Tensor:
    """Cosine between the scores of a pixel and its one-hot reference, `s_r / ||s||_2`.

    Args:
        scores: `(B, K, H, W)`: logits, or probabilities.
        reference: `(B, H, W)` int64.

    Returns:
        `(B, H, W)` in [-1, 1]; 0 where all scores are 0.

    Examples:
        >>> scores = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)
        >>> cosine_to_reference(scores, label)
        tensor([[[0.6000]]])
    """
    own = scores.gather(1, reference[:, None])[:, 0]
    length = scores.square().sum(1).clamp_min(1e-30).sqrt()  # on CPU faster than a norm along a strided dimension
    return own / length


def kl_divergence(log_p: Tensor, logits: Tensor) -> Tensor:
    """`KL(p, softmax(z)) = sum_c p_c (log p_c - log softmax(z)_c)`: `(B, K, H, W), (B, K, H, W) -> (B, H, W)`.

    Args:
        log_p: logarithms of the probabilities p.
        logits: z.

    Examples:
        >>> logits = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        >>> kl_divergence(logits.log_softmax(1), logits), kl_divergence(logits.log_softmax(1), -logits)
        (tensor([[[0.]]]), tensor([[[0.4621]]]))
    """
    return F.kl_div(logits.log_softmax(1), log_p, reduction="none", log_target=True).sum(1)
