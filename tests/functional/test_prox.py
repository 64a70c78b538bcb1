import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import prox_linf_sorted, prox_objective

from segrobust.functional.prox_linf import prox_linf


def problem(seed, size, kind, batch_size=3, dtype=torch.float64):
    """Points, metric and box: kinds differ in how much the box binds and how many values coincide."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    v, metric = 0.05 * draw(batch_size, size), draw(batch_size, size).abs() + 1e-3
    images = torch.rand(batch_size, size, generator=generator, dtype=dtype)
    if kind == "saturated":  # half of the values cannot move in one direction
        images = images.round()
    elif kind == "dark":  # 8-bit, so that many bounds are equal: the root sits on a kink
        images = (images * 12).floor() / 255
        v = 0.2 * v.sign() + v
    elif kind == "tight":  # the box binds almost everywhere
        images = images * 1e-3
    elif kind == "wild":  # metric over many orders of magnitude
        metric = 10 ** (3 * draw(batch_size, size))
    return v, metric, -images, 1 - images


def weights_between(v, metric, shares):
    """Weights as a share of the one above which the prox is zero."""
    return torch.tensor(shares, dtype=torch.float64) * (metric * v.abs()).double().sum(1)


@pytest.mark.parametrize("kind", ["plain", "saturated", "dark", "tight", "wild"])
@pytest.mark.parametrize("size", [1, 2, 7, 500, 20_000])
@pytest.mark.parametrize("shares", [(1e-4, 0.01, 0.1), (0.3, 0.6, 0.9)])
def test_prox_equals_the_sorted_solution(kind, size, shares):
    for seed in range(1 if size > 1000 else 8):
        v, metric, lower, upper = problem(seed, size, kind)
        weight = weights_between(v, metric, shares)
        z, t = prox_linf(v, metric, weight, lower, upper)
        for i in range(len(v)):
            expected, bound = prox_linf_sorted(v[i], metric[i], weight[i].item(), lower[i], upper[i])
            assert t[i].item() == pytest.approx(bound, rel=1e-9, abs=1e-13)
            np.testing.assert_allclose(z[i].numpy(), expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("kind", ["plain", "saturated", "dark", "tight"])
def test_the_sorted_solution_is_the_minimum(kind):
    """The oracle itself against every bound of a fine grid, and against random feasible points."""
    generator = np.random.default_rng(0)
    for seed in range(5):
        v, metric, lower, upper = (x[0] for x in problem(seed, 40, kind))
        for share in (0.05, 0.5):
            weight = share * (metric * v.abs()).sum().item()
            best, t = prox_linf_sorted(v, metric, weight, lower, upper)
            points, h, low, high = v.numpy(), metric.numpy(), lower.numpy(), upper.numpy()
            least = prox_objective(best, points, h, weight)
            for bound in np.linspace(0, np.abs(points).max(), 2000):
                z = np.clip(np.clip(points, low, high), -bound, bound)
                assert prox_objective(z, points, h, weight) >= least - 1e-12
            for _ in range(200):
                z = np.clip(best + generator.normal(size=best.shape) * max(t, 1e-3), low, high)
                assert prox_objective(z, points, h, weight) >= least - 1e-12


@pytest.mark.parametrize("level", range(1, 12))
def test_root_on_a_kink_shared_by_many_values(level):
    """The weight is chosen inside the jump of the derivative at `level/255`, so the bound is that value exactly."""
    v, metric, lower, upper = problem(3, 4000, "dark", batch_size=1)
    p, a = v.clamp(lower, upper).abs(), v.abs()
    kink = level / 255
    above = (metric * (a - kink))[p > kink].sum()
    on = (metric * (a - kink))[(p - kink).abs() < 1e-12].sum()
    assert on > 0
    _, t = prox_linf(v, metric, (above + on / 2)[None], lower, upper)
    assert t.item() == pytest.approx(kink, abs=1e-12)


def test_prox_is_zero_exactly_when_the_weight_is_large_enough():
    v, metric, lower, upper = problem(0, 300, "plain", batch_size=1)
    p = v.clamp(lower, upper).abs()
    critical = (metric * v.abs())[p > 0].sum()
    above, t_above = prox_linf(v, metric, critical[None] * (1 + 1e-9), lower, upper)
    below, t_below = prox_linf(v, metric, critical[None] * (1 - 1e-6), lower, upper)
    assert torch.equal(above, torch.zeros_like(v))
    assert t_above.item() == 0
    assert below.abs().amax() > 0
    assert t_below.item() > 0


def test_prox_without_weight_is_the_projection_onto_the_box():
    v, metric, lower, upper = problem(0, 300, "tight")
    z, _ = prox_linf(v, metric, torch.zeros(3, dtype=torch.float64), lower, upper)
    torch.testing.assert_close(z, v.clamp(lower, upper), rtol=0, atol=1e-15)


def test_prox_of_zero_is_zero():
    zero, ones = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    z, t = prox_linf(zero, ones, torch.ones(2), -ones, ones)
    assert torch.equal(z, zero)
    assert t.tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["plain", "dark", "tight"])
def test_the_guess_does_not_change_the_result(kind):
    v, metric, lower, upper = problem(2, 1000, kind)
    weight = weights_between(v, metric, (0.05, 0.2, 0.7))
    _, cold = prox_linf(v, metric, weight, lower, upper)
    for guess in (cold, cold * 0.5, cold * 2, torch.full_like(cold, 1e9), torch.zeros_like(cold)):
        _, warm = prox_linf(v, metric, weight, lower, upper, guess)
        torch.testing.assert_close(warm, cold, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["plain", "dark", "tight"])
def test_large_float32_images(kind):
    v, metric, lower, upper = problem(1, 200_000, kind, batch_size=1, dtype=torch.float32)
    weight = weights_between(v, metric, (0.3,)).float()
    z, t = prox_linf(v, metric, weight, lower, upper)
    expected, bound = prox_linf_sorted(v[0], metric[0], weight.item(), lower[0], upper[0])
    assert t.item() == pytest.approx(bound, rel=1e-5)
    reached = prox_objective(z[0].double().numpy(), v[0].double().numpy(), metric[0].double().numpy(), weight.item())
    least = prox_objective(expected, v[0].double().numpy(), metric[0].double().numpy(), weight.item())
    assert reached <= least * (1 + 1e-6)


def test_an_image_alone_gives_the_same_as_in_a_batch():
    v, metric, lower, upper = problem(5, 2000, "dark", batch_size=4)
    weight = weights_between(v, metric, (1e-3, 0.1, 0.5, 2.0))
    z, t = prox_linf(v, metric, weight, lower, upper)
    for i in range(4):
        one, bound = prox_linf(*(x[i : i + 1] for x in (v, metric, weight, lower, upper)))
        assert torch.equal(one[0], z[i])
        assert torch.equal(bound[0], t[i])


def project_l1(v, radius):
    """Projection onto the l1 ball by bisection of the soft threshold."""
    low, high = 0.0, v.abs().max().item()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (v.abs() - middle).clamp_min(0).sum() > radius else (low, middle)
    return v.sign() * (v.abs() - high).clamp_min(0)


@given(seed=st.integers(0, 10**6), size=st.integers(1, 60), share=st.floats(0.01, 0.99))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_moreau_decomposition_without_a_box(seed, size, share):
    """With H = 1: v - prox is the projection of v onto the l1 ball whose radius is the weight."""
    v = torch.randn(1, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    radius = share * v.abs().sum().item()
    far = torch.full_like(v, 1e6)
    z, _ = prox_linf(v, torch.ones_like(v), torch.tensor([radius], dtype=torch.float64), -far, far)
    torch.testing.assert_close(v - z, project_l1(v, radius), rtol=0, atol=1e-9)


@given(
    seed=st.integers(0, 10**6), size=st.integers(1, 200), kind=st.sampled_from(["plain", "saturated", "dark", "tight"])
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_bound_falls_as_the_weight_grows(seed, size, kind):
    v, metric, lower, upper = problem(seed, size, kind, batch_size=1)
    shares = torch.linspace(0, 1.2, 13, dtype=torch.float64)
    weight = shares * (metric * v.abs()).sum()
    z, t = prox_linf(*(x.expand(13, -1) for x in (v, metric)), weight, *(x.expand(13, -1) for x in (lower, upper)))
    assert (t.diff() <= 1e-12).all()
    assert (z.abs().amax(1) <= t + 1e-15).all()
    assert ((z >= lower) & (z <= upper)).all()
