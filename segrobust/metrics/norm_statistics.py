"""Statistics of minimal norms over images.

A norm is the smallest perturbation found for one image, in units of images in [0, 1]. A failure is `inf`: the attack
ended before it broke the image, so all that is known is "more than what was tried" (a censored value). It is counted in
every statistic and never dropped. Images without a valid pixel have no norm; the caller leaves them out and says so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

ROUNDING = 2.0**-23
"""Slack of `norm <= eps`: one unit in the last place of a float32 pixel near 1, 3e-5 of 1/255. Without it, whether an
attack that stops on the sphere of radius eps counts at eps is decided by the rounding of `images + delta`."""

_SNAP = 1e-9
"""A rank this close to an integer is that integer: 0.55 * 100 is 55.00000000000001, but rank 56 has no weight."""

_ZERO_AREA = 1e-12
"""Relative to the largest norm: an area that is zero but for rounding."""


@dataclass(frozen=True, kw_only=True)
class NormRatio:
    """Two attacks on the same images.

    Attributes:
        ratio: geometric mean of a / b over the images counted by `num_both`; below 1 attack a is stronger there. nan if
            there are no such images.
        num_both: images that both attacks break, by a perturbation that is not zero.
        num_only_a: images that only attack a breaks.
        num_only_b: images that only attack b breaks.
        num_neither: images that none breaks.
        num_zero: images that both break, at least one of them with norm 0 (broken without any attack): without a ratio.
    """

    ratio: float
    num_both: int
    num_only_a: int
    num_only_b: int
    num_neither: int
    num_zero: int


def asr(norms: Tensor) -> float:
    """Gives the attack success rate: the share of norms `(N,)` that are finite.

    Raises:
        ValueError: no norm, a nan, or a negative one.

    Examples:
        >>> norms = torch.tensor([0.01, 0.02, 0.04, torch.inf], dtype=torch.float64)  # the last one failed
        >>> asr(norms)
        0.75
    """
    _check_norms(norms)
    return norms.isfinite().double().mean().item()


def asr_at(norms: Tensor, eps: Sequence[float]) -> tuple[float, ...]:
    """Gives the share of images broken within each radius: norm <= eps, up to the rounding of float32 images.

    For a minimal-norm attack this is exact at every eps, from one run. Failures do not count even at `eps=math.inf`.

    Raises:
        ValueError: as `asr`, or a radius that is negative or nan.

    Examples:
        >>> norms = torch.tensor([0.01, 0.02, 0.04, torch.inf], dtype=torch.float64)  # the last one failed
        >>> asr_at(norms, (0.01, 0.03))
        (0.25, 0.5)
    """
    _check_norms(norms)
    for radius in eps:
        if not radius >= 0:
            raise ValueError(f"eps must be at least 0, in the units of the norms, got {radius}")
    return tuple((norms.isfinite() & (norms.double() <= radius + ROUNDING)).double().mean().item() for radius in eps)


def quantiles(norms: Tensor, probabilities: Sequence[float]) -> tuple[float, ...]:
    """Gives quantiles of the norms `(N,)` by order statistics, failures in their place at the upper end.

    The quantile at p lies at the rank (N - 1) p, between two neighbours of the sorted norms, and is interpolated
    linearly (type 7, as `numpy.quantile`). Where a neighbour that has weight is inf, so is the quantile: unknown.

    Raises:
        ValueError: as `asr`, or a probability outside of [0, 1].

    Examples:
        >>> norms = torch.tensor([0.01, 0.02, 0.04, torch.inf], dtype=torch.float64)  # the last one failed
        >>> quantiles(norms, (0.5, 0.9))
        (0.03, inf)
    """
    _check_norms(norms)
    for probability in probabilities:
        if not 0 <= probability <= 1:
            raise ValueError(f"probabilities lie in [0, 1], got {probability}; 50 % is 0.5")
    ordered: list[float] = norms.double().sort().values.tolist()
    return tuple(_order_statistic(ordered, (len(ordered) - 1) * probability) for probability in probabilities)


def mean_capped(norms: Tensor, cap: float) -> float:
    """Gives the mean of min(norm, cap), in which a failure counts as `cap`; read it beside the success rate.

    Raises:
        ValueError: as `asr`, or a cap that is not positive and finite.

    Examples:
        >>> norms = torch.tensor([0.01, 0.02, 0.04, torch.inf], dtype=torch.float64)  # the last one failed
        >>> mean_capped(norms, cap=0.13)
        0.05
    """
    _check_norms(norms)
    if not (cap > 0 and math.isfinite(cap)):
        raise ValueError(f"cap must be positive and finite, in the units of the norms, got {cap}")
    return norms.double().clamp(max=cap).mean().item()


def geometric_mean_ratio(a: Tensor, b: Tensor) -> NormRatio:
    """Compares two attacks image by image: exp(mean(log(a / b))) over the images that both break, `(N,), (N,)`.

    The mean of norms is ruled by the hardest images and by failures; the ratio weighs every shared image alike. It is
    conditioned on what both break, so the counts that they do not share belong beside it.

    Raises:
        ValueError: as `asr`, or the lengths differ.

    Examples:
        >>> norms = torch.tensor([0.01, 0.02, 0.04, torch.inf], dtype=torch.float64)  # the last one failed
        >>> found = geometric_mean_ratio(norms, 2 * norms)
        >>> found.num_both, found.num_neither, round(found.ratio, 3)
        (3, 1, 0.5)
    """
    _check_norms(a)
    _check_norms(b)
    if a.shape != b.shape:
        raise ValueError(f"norms of the same images are compared, got {len(a)} and {len(b)} of them")
    a, b = a.double(), b.double()
    broken_a, broken_b = a.isfinite(), b.isfinite()
    zero = broken_a & broken_b & ((a == 0) | (b == 0))
    both = broken_a & broken_b & ~zero
    return NormRatio(
        ratio=(a[both].log() - b[both].log()).mean().exp().item(),
        num_both=int(both.sum()),
        num_only_a=int((broken_a & ~broken_b).sum()),
        num_only_b=int((broken_b & ~broken_a).sum()),
        num_neither=int((~broken_a & ~broken_b).sum()),
        num_zero=int(zero.sum()),
    )


def local_optimality(norms: Tensor, envelope: Tensor) -> float:
    """Gives AttackBench's local optimality of an attack on one network, in [0, 1]: 1 on the envelope.

    With rho(eps) the share of images that are not broken within eps, and eps_0 the largest norm of the envelope, it is
    the area between the share of images that are right without attack and rho of the attack over [0, eps_0], divided by
    the same area of the envelope. An image that the envelope does not break counts as unbroken in both.

    Minimal norms of segmentation lie close together, so that it falls to 0 at norms about a tenth above the envelope:
    read it with `geometric_mean_ratio`. The mean over networks is AttackBench's global optimality.

    Source: AttackBench, Cina et al., AAAI 2025 (arXiv 2404.19460), equations 4 and 5; their code takes the largest
    finite norm for eps_0 where the envelope has failures, and clips to [0, 1].

    Args:
        norms: of the attack, `(N,)`; inf for a failure.
        envelope: the smallest norms known of the same images, `(N,)`.

    Returns:
        The optimality; nan if the envelope breaks no image by a perturbation, or all of them by the same norm.

    Raises:
        ValueError: as `asr`, or the lengths differ.

    Examples:
        >>> envelope = torch.tensor([0.01, 0.02, 0.04], dtype=torch.float64)
        >>> local_optimality(envelope, envelope), round(local_optimality(1.1 * envelope, envelope), 2)
        (1.0, 0.94)
    """
    _check_norms(norms)
    _check_norms(envelope)
    if norms.shape != envelope.shape:
        raise ValueError(f"norms of the same images are compared, got {len(norms)} and {len(envelope)} of them")
    largest = envelope[envelope.isfinite()].double().max().item() if envelope.isfinite().any() else 0.0
    right = (envelope != 0).double().mean().item()
    best = right * largest - _area_unbroken(envelope, largest)
    if not best > _ZERO_AREA * largest:
        return math.nan
    return min(1.0, max(0.0, (right * largest - _area_unbroken(norms, largest)) / best))


def _area_unbroken(norms: Tensor, largest: float) -> float:
    """The integral of the share of unbroken images over radii from 0 to `largest`."""
    return norms.double().clamp(max=largest).mean().item()


def _order_statistic(ordered: Sequence[float], rank: float) -> float:
    """Interpolates between the two values around a rank, without looking at one that has no weight."""
    if abs(rank - round(rank)) < _SNAP:
        return ordered[round(rank)]
    low = math.floor(rank)
    if math.isinf(ordered[low + 1]):
        return math.inf
    return ordered[low] + (rank - low) * (ordered[low + 1] - ordered[low])


def _check_norms(norms: Tensor) -> None:
    if norms.ndim != 1 or len(norms) == 0:
        raise ValueError(f"norms must have the shape (N,) with at least one image, got {tuple(norms.shape)}")
    if not norms.is_floating_point():
        raise ValueError(f"norms must be floating point, in units of images in [0, 1], got {norms.dtype}")
    if norms.isnan().any():
        raise ValueError(
            f"{int(norms.isnan().sum())} of {len(norms)} norms are nan: leave out images without a valid pixel"
        )
    if (norms < 0).any():
        raise ValueError(f"norms are at least 0, got {norms.min().item()}")
