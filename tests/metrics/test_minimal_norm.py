"""Statistics of censored norms."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segrobust.metrics import asr, asr_at, geometric_mean_ratio, local_optimality, mean_capped, quantiles

INF = math.inf
norm_lists = st.lists(st.one_of(st.floats(0, 10), st.just(INF)), min_size=1, max_size=30)


def norms(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_success_rates() -> None:
    values = norms(0.0, 0.01, 0.02, INF)
    assert asr(values) == 0.75
    assert asr_at(values, (0.0, 0.01, 0.015, 1.0, INF)) == (0.25, 0.5, 0.5, 0.75, 0.75)


@pytest.mark.parametrize("step", range(1, 17))
def test_a_perturbation_on_the_sphere_counts_at_its_radius(step: int) -> None:
    eps = step / 255
    images = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(step)) * (1 - 2 * eps) + eps
    measured = (images + eps - images).flatten(1).norm(INF, dim=1)
    assert asr_at(measured, (eps, eps - 1e-4 / 255)) == (1.0, 0.0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.floats(0, 1))
def test_quantiles_without_failures_are_those_of_numpy(values: list[float], probability: float) -> None:
    (got,) = quantiles(norms(*values), (probability,))
    assert got == pytest.approx(np.quantile(values, probability), rel=1e-9, abs=1e-7)


@settings(max_examples=200, deadline=None)
@given(norm_lists, st.floats(0, 1))
def test_quantiles_with_failures_are_the_limit_of_large_norms(values: list[float], probability: float) -> None:
    rank = (len(values) - 1) * probability
    assume(rank == round(rank) or abs(rank - round(rank)) > 1e-8)  # closer to an integer, it is taken as that integer
    (got,) = quantiles(norms(*values), (probability,))
    huge = np.quantile([min(value, 1e30) for value in values], probability)
    if huge < 1e6:
        assert got == pytest.approx(huge, rel=1e-6, abs=1e-6)
    else:
        assert got == INF


@settings(max_examples=100, deadline=None)
@given(norm_lists, st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_quantiles_are_never_nan_and_grow(values: list[float], probabilities: list[float]) -> None:
    got = quantiles(norms(*values), sorted(probabilities))
    assert list(got) == sorted(got)
    assert not any(math.isnan(value) for value in got)


def test_a_failure_counts_in_a_quantile_only_with_weight() -> None:
    assert quantiles(norms(INF, 1.0, 2.0), (0.0, 0.25, 0.5, 0.51, 1.0)) == (1.0, 1.5, 2.0, INF, INF)
    assert quantiles(norms(1.0, INF), (0.5,)) == (INF,)
    assert quantiles(norms(INF, INF, INF), (0.0, 0.3, 1.0)) == (INF, INF, INF)
    assert quantiles(norms(3.0), (0.0, 0.7, 1.0)) == (3.0, 3.0, 3.0)


def test_rounding_of_the_rank_does_not_reach_a_failure() -> None:
    assert 0.55 * 100 > 55
    values = norms(*[float(value) for value in range(56)], *[INF] * 45)
    assert quantiles(values, (0.55,)) == (55.0,)


def test_mean_takes_failures_at_the_cap() -> None:
    assert mean_capped(norms(0.1, 0.2, 0.9, INF), cap=0.5) == pytest.approx((0.1 + 0.2 + 0.5 + 0.5) / 4)


def test_ratio_is_over_shared_images_and_the_rest_is_counted() -> None:
    a = norms(2.0, 1.0, INF, 3.0, INF, 0.0, 0.5)
    b = norms(1.0, 8.0, 1.0, INF, INF, 0.0, 0.0)
    result = geometric_mean_ratio(a, b)
    assert result.ratio == pytest.approx(math.sqrt(2 / 1 * 1 / 8))
    counts = (result.num_both, result.num_only_a, result.num_only_b, result.num_neither, result.num_zero)
    assert counts == (2, 1, 1, 1, 2)
    assert sum(counts) == len(a)
    assert geometric_mean_ratio(b, a).ratio == pytest.approx(1 / result.ratio)


def test_ratio_of_nothing_shared_is_nan() -> None:
    result = geometric_mean_ratio(norms(1.0, INF), norms(INF, 1.0))
    assert math.isnan(result.ratio)
    assert result.num_both == 0


def test_statistics_hold_the_same_numbers_for_float32() -> None:
    values = torch.tensor([0.25, 0.5, 0.125, INF, 0.0])
    assert asr(values) == pytest.approx(0.8)
    assert quantiles(values, (0.25, 0.5, 0.75)) == (0.125, 0.25, 0.5)
    assert mean_capped(values, 0.25) == pytest.approx((0.25 + 0.25 + 0.125 + 0.25 + 0) / 5)
    assert asr_at(values, (0.125, 0.25)) == (0.4, 0.6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.empty(0), "at least one image"),
        (torch.rand(2, 2), r"\(2, 2\)"),
        (norms(0.1, math.nan), "1 of 2 norms are nan.*valid pixel"),
        (norms(-0.1), r"-0\.1"),
        (torch.tensor([1, 2]), "int64"),
    ],
)
def test_what_is_no_norm_is_refused(values: torch.Tensor, message: str) -> None:
    for statistic in (asr, lambda n: asr_at(n, (0.1,)), lambda n: quantiles(n, (0.5,)), lambda n: mean_capped(n, 1.0)):
        with pytest.raises(ValueError, match=message):
            statistic(values)
    with pytest.raises(ValueError, match=message):
        geometric_mean_ratio(values, values)
    with pytest.raises(ValueError, match=message):
        local_optimality(values, values)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"0\.5"):
        quantiles(norms(1.0), (50,))
    with pytest.raises(ValueError, match="got inf"):
        mean_capped(norms(1.0), INF)
    with pytest.raises(ValueError, match="got -1"):
        asr_at(norms(1.0), (-1,))
    with pytest.raises(ValueError, match="got 2 and 1"):
        geometric_mean_ratio(norms(1.0, 2.0), norms(1.0))
    with pytest.raises(ValueError, match="got 2 and 1"):
        local_optimality(norms(1.0, 2.0), norms(1.0))


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Norms of an attack and an envelope below them, with images that are broken without attack and failures."""
    rng = torch.Generator().manual_seed(seed)
    envelope = torch.rand(12, generator=rng, dtype=torch.float64) + 0.5
    envelope[:2] = 0
    attack = envelope * (1 + 0.3 * torch.rand(12, generator=rng, dtype=torch.float64))
    attack[4:6] = INF
    if seed % 2:
        envelope[4] = INF
    return attack, envelope


def area_by_rectangles(values: torch.Tensor, end: float) -> float:
    """The integral of the share of unbroken images, rectangle by rectangle."""
    edges = sorted({0.0, end, *(v for v in values.tolist() if v < end)})
    return sum((b - a) * (values > a).double().mean().item() for a, b in itertools.pairwise(edges))


@pytest.mark.parametrize("seed", range(6))
def test_optimality_is_a_ratio_of_areas(seed: int) -> None:
    attack, envelope = drawn(seed)
    end, right = envelope[envelope.isfinite()].max().item(), 10 / 12
    areas = [right * end - area_by_rectangles(values, end) for values in (attack, envelope)]
    assert local_optimality(attack, envelope) == pytest.approx(areas[0] / areas[1])
    assert local_optimality(envelope, envelope) == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.filterwarnings("ignore:The reference lower envelope:UserWarning")
def test_optimality_is_that_of_attackbench(seed: int) -> None:
    distances = pytest.importorskip("attackbench.metrics.distances", reason="needs AttackBenchLib, an extra of tests")
    attack, envelope = drawn(seed)
    assert local_optimality(attack, envelope) == pytest.approx(distances.eval_optimality(attack, envelope))
    far = torch.full_like(envelope, 9.0)
    assert local_optimality(far, envelope) == distances.eval_optimality(far, envelope) == 0


def test_an_envelope_without_spread_has_no_optimality() -> None:
    for envelope in (norms(0.3, 0.3, 0.3), norms(0.0, 0.0), norms(INF, INF)):
        assert math.isnan(local_optimality(envelope, envelope))
