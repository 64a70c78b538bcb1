"""Whether outputs saturate or tie, so that margins hold still where the network is sure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from segrobust.evaluation.checks.check import Check, ProbeFinding, graded, make_check, worst_finding, worst_of
from segrobust.evaluation.checks.probes import Probe

_SIZE: Final = 1e-3
"""Perturbation of random signs, image units."""

_CEILING: Final = 0.05
"""Standard deviation over mean of the larger half of the margins, below which they lie at a ceiling. Honest networks
that we measured have 0.13 and more, scores and probabilities of trained networks 0.04 and less."""

_STILL: Final = (10.0, 50.0)
"""How much more the smaller margins move than those at the ceiling: warn, fail. Logits have 0.5 to 6."""

_TIES: Final = (0.01, 0.1)
"""Share of pixels whose two largest outputs are equal: warn, fail. Half precision makes some of them equal."""

_FLOOR: Final = (0.1, 0.5)
"""Share of pixels whose second and third outputs are equal, as behind a clamp or a ReLU: warn, fail."""


def check_saturation(probes: Sequence[Probe]) -> Check:
    """Whether margins lie at a ceiling where they hardly move, or outputs are equal. Costs one forward.

    The scores of networks that classify masks are sums of products of probabilities: they need not sum to 1, and are
    not recognised as probabilities, but they saturate as these do.
    """
    status, detail, fix = worst_finding(found for probe in probes for found in _look(probe))
    return make_check(
        "saturation",
        status,
        detail,
        meaning="where outputs saturate, the gradient vanishes, and attacks make no progress at the pixels of which "
        "the network is sure; a pixel whose outputs tie counts as unbroken, whatever its prediction",
        fix=fix,
    )


class _Measured(NamedTuple):
    """What was measured of each image, `(B,)` each."""

    spread: Tensor
    stillness: Tensor
    ties: Tensor
    floor: Tensor


def _look(probe: Probe) -> list[ProbeFinding]:
    """One finding per image."""
    measured = zip(probe.sample_ids, *(values.tolist() for values in _measure(probe)), strict=True)
    return [finding for values in measured for finding in _judge(*values)]


def _measure(probe: Probe) -> _Measured:
    images = probe.problem.images
    signs = torch.randint(2, images.shape, generator=torch.Generator().manual_seed(0)).to(images) * 2 - 1
    moved = probe.logits((_SIZE * signs).clamp(probe.problem.lower, probe.problem.upper))
    first, second = probe.clean.topk(2, dim=1).indices.unbind(1)
    margins, others = (
        (logits.gather(1, first[:, None]) - logits.gather(1, second[:, None])).flatten(1)
        for logits in (probe.clean, moved)
    )
    rows = zip(margins, (others - margins).abs(), strict=True)
    spread, stillness = (torch.tensor(values) for values in zip(*(_compare(*row) for row in rows), strict=True))
    return _Measured(spread, stillness, (margins == 0).double().mean(1), _share_at_floor(probe))


def _compare(margins: Tensor, moves: Tensor) -> tuple[float, float]:
    """Relative spread of the larger half of the margins of an image, and how much more the smaller ones move."""
    large = margins >= margins.median()
    if bool(large.all()) or not bool(moves.any()):
        return float("inf"), 0.0
    top = margins[large]
    spread = float(top.std(correction=0) / top.mean().clamp_min(torch.finfo(top.dtype).tiny))
    still, other = float(moves[large].median()), float(moves[~large].mean())
    return spread, other / still if still else float("inf")


def _share_at_floor(probe: Probe) -> Tensor:
    """Share of the pixels whose second and third outputs are equal; none where a class has no rival but one."""
    if probe.clean.shape[1] < 3:
        return torch.zeros(len(probe.clean), dtype=torch.float64)
    _, second, third = probe.clean.masked_fill(~probe.possible, -torch.inf).topk(3, dim=1).values.unbind(1)
    return ((second == third) & third.isfinite()).flatten(1).double().mean(1)


def _judge(sample_id: int, spread: float, stillness: float, ties: float, floor: float) -> tuple[ProbeFinding, ...]:
    """Findings of one image, of which the worst counts."""
    logs = "give the logits from which probabilities are made; of a network that classifies masks of queries "
    logs += "(Mask2Former and others) give the logarithm of its scores by segrobust.networks.QueryNetwork, whose "
    logs += "gradient does not vanish"
    shown = f"in image {sample_id}, the larger half of the margins differ by {spread:.2g} of their mean, and a small "
    shown += f"perturbation moves the others {stillness:.3g} times as much; "
    shown += f"the two largest outputs tie at {ties:.2%} of the pixels, second and third at {floor:.2%}"
    at_ceiling = stillness if spread < _CEILING else 0.0
    return (
        ProbeFinding(graded(at_ceiling, warn=_STILL[0], fail=_STILL[1]), shown, logs),
        ProbeFinding(
            worst_of((graded(ties, warn=_TIES[0], fail=_TIES[1]), graded(floor, warn=_FLOOR[0], fail=_FLOOR[1]))),
            shown,
            f"remove a clamp, a ReLU or reduced precision from the end of the network; {logs}",
        ),
    )
