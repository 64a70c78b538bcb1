"""Margins between a reference class and its strongest competitor: difference of logits and DLR."""

from typing import Literal

import torch
from torch import Tensor

MarginName = Literal["margin", "dlr"]

Sign = int | Tensor
"""1 where the reference class must lose, -1 where it must win: one for all pixels, or `(B, H, W)` int64."""

MIN_CLASSES = {"margin": (2, 2), "dlr": (3, 4)}
"""Fewest classes for which a margin is defined: (untargeted, targeted)."""


def top_classes(logits: Tensor, k: int) -> Tensor:
    """Indices of the `k` largest logits of every pixel, largest first; the lower class index wins a tie.

    Args:
        logits: `(B, K, H, W)`.
        k: how many, at most `K`.

    Returns:
        `(B, k, H, W)` int64.

    Examples:
        >>> logits = torch.tensor([3.0, 1.0, 2.0, 2.0]).view(1, 4, 1, 1)
        >>> top_classes(logits, 3).flatten()
        tensor([0, 2, 3])
    """
    return _top(logits, k, k)[1]


def _top(logits: Tensor, k: int, num_indices: int) -> tuple[Tensor, Tensor]:
    """The `k` largest logits of every pixel, and the classes of the first `num_indices` of them."""
    if logits.device.type != "cpu":
        values, classes = _top_by_maxima(logits, k)
        return values, classes[:, :num_indices]
    # On CPU `topk` and `argmax` along a strided dimension are many times slower than minima and maxima of whole planes.
    ranked = [torch.full_like(logits[:, 0], -torch.inf) for _ in range(k)]
    for candidate in logits.unbind(1):
        for larger in ranked[:-1]:
            smaller = torch.minimum(larger, candidate)
            torch.maximum(larger, candidate, out=larger)
            candidate = smaller
        torch.maximum(ranked[-1], candidate, out=ranked[-1])
    found: list[Tensor] = []
    for values in ranked[:num_indices]:
        found.append(_class_of(values, logits, found))
    return torch.stack(ranked, 1), torch.stack(found, 1).long()


def _top_by_maxima(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest and their classes by maxima in turn: `topk` along a strided dimension is slower on a GPU."""
    left = logits.clamp_min(torch.finfo(logits.dtype).min)  # -inf marks those that were found
    found = [left.argmax(1, keepdim=True)]
    while len(found) < k:
        left = left.scatter(1, found[-1], -torch.inf)
        found.append(left.argmax(1, keepdim=True))
    classes = torch.cat(found, 1)
    return logits.gather(1, classes), classes


def _class_of(values: Tensor, logits: Tensor, taken: list[Tensor]) -> Tensor:
    """Lowest class whose logit is the given one and that is not yet taken: `(B, H, W)`, in the type of the logits.

    Comparisons that give floats are vectorised on CPU; those that give booleans, and selections by them, are not.
    """
    num_classes = logits.shape[1]
    countdown = torch.ones_like(values)  # K - class; a NaN, which equals nothing, gets the last class
    hit, free = torch.empty_like(values), torch.empty_like(values)
    for c, plane in enumerate(logits.unbind(1)):
        torch.eq(plane, values, out=hit)
        for other in taken:
            hit.mul_(torch.ne(other, c, out=free))
        torch.maximum(countdown, hit.mul_(num_classes - c), out=countdown)
    return num_classes - countdown


def competitor(top: Tensor, reference: Tensor) -> Tensor:
    """Class of the largest logit other than the reference's.

    Args:
        top: `(B, >= 2, H, W)` from `top_classes`.
        reference: `(B, H, W)` int64.

    Returns:
        `(B, H, W)` int64.

    Examples:
        >>> logits = torch.tensor([3.0, 1.0, 2.0, 2.0]).view(1, 4, 1, 1)
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)
        >>> competitor(top_classes(logits, 2), label)
        tensor([[[2]]])
    """
    return torch.where(top[:, 0] == reference, top[:, 1], top[:, 0])


def margin(logits: Tensor, reference: Tensor) -> Tensor:
    """Difference of logits `z_r - max_{c != r} z_c` of every pixel.

    Positive where the reference class wins; its gradient reaches the two logits that it compares.

    Args:
        logits: `(B, K, H, W)`, K >= 2.
        reference: `(B, H, W)` int64 class indices.

    Returns:
        `(B, H, W)`, in logits.

    Examples:
        >>> logits = torch.tensor([3.0, 1.0, 2.0, 2.0]).view(1, 4, 1, 1)
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)
        >>> margin(logits, label), margin(logits, label + 1)
        (tensor([[[1.]]]), tensor([[[-2.]]]))
    """
    require_classes("margin", logits.shape[1], targeted=False)
    if not logits.requires_grad:  # which class competes need not be known
        others = logits.scatter(1, reference[:, None], -torch.inf)
        return logits.gather(1, reference[:, None])[:, 0] - others.amax(1)
    rival = competitor(top_classes(logits.detach(), 2), reference)
    pair = logits.gather(1, torch.stack((reference, rival), 1))
    return pair[:, 0] - pair[:, 1]


def smooth_margin(logits: Tensor, reference: Tensor, temperature: Tensor) -> Tensor:
    """Margin against a smooth maximum of the other classes: `z_r - T log sum_{c != r} exp(z_c / T)`.

    At most the margin, and at least the margin minus `T log(K - 1)`; its gradient reaches all classes that compete.

    Args:
        logits: `(B, K, H, W)`, K >= 2.
        reference: `(B, H, W)` int64 class indices.
        temperature: `(B,)`, T > 0 of each image, in logits.

    Returns:
        `(B, H, W)`, in logits.

    Examples:
        >>> logits = torch.tensor([3.0, 1.0, 2.0, 2.0]).view(1, 4, 1, 1)
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)
        >>> smooth_margin(logits, label, torch.tensor([1.0]))
        tensor([[[0.1380]]])
        >>> smooth_margin(logits, label, torch.tensor([0.1]))  # near the margin, 1
        tensor([[[0.9307]]])
    """
    require_classes("margin", logits.shape[1], targeted=False)
    t = temperature[:, None, None]
    own = logits.gather(1, reference[:, None])
    others = logits.scatter(1, reference[:, None], -torch.inf)
    return own[:, 0] - t * (others / t[:, None]).logsumexp(1)


def must_win(sign: Sign) -> bool:
    """Whether the reference class must win somewhere, as far as is known without asking the device.

    Examples:
        >>> must_win(1), must_win(-1)  # untargeted, targeted
        (False, True)
    """
    return isinstance(sign, Tensor) or sign < 0


def select_by_sign(sign: Sign, losing: Tensor, winning: Tensor) -> Tensor:
    """The first where the reference class must lose, the second where it must win: `(B, H, W)`.

    Examples:
        >>> sign = torch.tensor([1, -1])
        >>> select_by_sign(sign, torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
        tensor([1., 4.])
    """
    if isinstance(sign, Tensor):
        return torch.where(sign > 0, losing, winning)
    return losing if sign > 0 else winning


def dlr(
    logits: Tensor,
    reference: Tensor,
    *,
    sign: Sign = 1,
    tolerance: float = 0.0,
    full_denominator_gradient: bool = False,
) -> Tensor:
    """Signed difference-of-logits ratio of every pixel, invariant to the scale of the logits.

    With `m` the margin of the reference class and `z_(k)` the k-th largest logit:
    untargeted (`sign=1`) `(m + tolerance) / (z_(1) - z_(3))`, targeted (`sign=-1`)
    `(-m + tolerance) / (z_(1) - (z_(3) + z_(4)) / 2)`. Negative or zero means broken by at least `tolerance`.

    Differentiated as it stands, the ratio of an unbroken pixel can fall for ever by a denominator that grows, and never
    change its sign. By default the denominator is therefore held constant where the pixel is unbroken, which leaves the
    gradient of the margin in the pixel's own scale. Where it is broken, the gradient flows through the largest logit of
    the denominator: it fades as the ratio nears -1, and spares the effort that other pixels need.

    The denominator is kept above 1e-4 of its mean over the image: an exact tie of the first and third logit would
    otherwise weigh as much as the rest of the image together.

    Args:
        logits: `(B, K, H, W)`.
        reference: `(B, H, W)` int64: the true class, or the target class for `sign=-1`.
        sign: 1 untargeted, -1 targeted; one for all pixels, or `(B, H, W)`.
        tolerance: added to the signed margin, in logits.
        full_denominator_gradient: whether the gradient is that of the ratio as it stands.

    Returns:
        `(B, H, W)`.

    Raises:
        ValueError: fewer than 3 (untargeted) or 4 (targeted) classes; names `"margin"` as the alternative.

    Source: Croce & Hein, ICML 2020, section 4.1 (classification, with the opposite sign); Rony et al., CVPR 2023.

    Examples:
        >>> logits = torch.tensor([3.0, 1.0, 2.0, 2.0]).view(1, 4, 1, 1)
        >>> label = torch.zeros(1, 1, 1, dtype=torch.long)
        >>> dlr(logits, label), dlr(10 * logits, label)
        (tensor([[[1.]]]), tensor([[[1.]]]))
        >>> dlr(logits, label + 1, sign=-1)  # towards class 1
        tensor([[[1.3333]]])
    """
    require_classes("dlr", logits.shape[1], targeted=must_win(sign))
    k = 4 if must_win(sign) else 3
    ranked, top = _top(logits.detach(), k, k if full_denominator_gradient else 2)
    if full_denominator_gradient:
        ranked = logits.gather(1, top)
    picked = logits.gather(1, torch.stack((reference, competitor(top, reference)), 1))
    signed = sign * (picked[:, 0] - picked[:, 1]) + tolerance
    largest = ranked[:, 0]
    if not full_denominator_gradient:
        winner = select_by_sign(sign, picked[:, 1], picked[:, 0])  # of a broken pixel: the largest logit
        largest = torch.where(signed.detach() < 0, winner, largest)
    third = ranked[:, 2]
    spread = largest - (select_by_sign(sign, third, ranked[:, 2:4].mean(1)) if must_win(sign) else third)
    floor = 1e-4 * spread.detach().mean((1, 2), keepdim=True) + 1e-8
    return signed / torch.maximum(spread, floor)


def require_classes(name: MarginName, num_classes: int, *, targeted: bool) -> None:
    """Checks that a margin is defined for a number of classes.

    Raises:
        ValueError: naming the margin, the number of classes it needs, and the alternative.

    Examples:
        >>> require_classes("margin", 2, targeted=False)
        >>> require_classes("dlr", 2, targeted=False)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: the untargeted 'dlr' needs at least 3 classes, the network has 2; ...
    """
    needed = MIN_CLASSES[name][targeted]
    if num_classes < needed:
        kind = "targeted" if targeted else "untargeted"
        fix = "; use the margin, loss=Margin(), which needs 2" if name != "margin" else ""
        raise ValueError(f"the {kind} {name!r} needs at least {needed} classes, the network has {num_classes}{fix}")


def margin_scale(margins: Tensor, valid_mask: Tensor, logits: Tensor) -> Tensor:
    """Mean absolute margin of the valid pixels, kept above what rounding does to the logits: `(B,)`, positive.

    Over it, margins do not depend on the scale of the logits. Rounding is that of the largest logit of a pixel, which
    every margin contains.

    Args:
        margins: `(B, H, W)`.
        valid_mask: `(B, H, W)` bool.
        logits: `(B, K, H, W)` that the margins are of.

    Examples:
        >>> margins = torch.tensor([[[2.0, -4.0, 9.0]]])
        >>> valid_mask = torch.tensor([[[True, True, False]]])
        >>> margin_scale(margins, valid_mask, torch.zeros(1, 2, 1, 3))
        tensor([3.])
    """
    mean = (margins.abs() * valid_mask).sum((1, 2)) / valid_mask.sum((1, 2)).clamp_min(1)
    return mean.clamp_min(1e-6 * logits.amax(1).flatten(1).abs().mean(1) + 1e-30)
