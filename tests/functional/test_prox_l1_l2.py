import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segrobust.functional.norms import norm
from segrobust.functional.prox import prox
from segrobust.functional.prox_l1 import prox_l1
from segrobust.functional.prox_l2 import prox_l2
from segrobust.functional.prox_linf import prox_linf

KINDS = ["plain", "saturated", "dark", "tight", "wild"]
SHARES = (1e-6, 1e-2, 0.3, 0.9, 0.999, 1.1)  # of the weight from which on the prox is zero


def problem(seed, size, kind, batch_size=1, dtype=torch.float64):
    """Points, metric and box: kinds differ in how much the box binds and in the spread of the metric."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    v, metric = 0.05 * draw(batch_size, size), draw(batch_size, size).abs() + 1e-3
    images = torch.rand(batch_size, size, generator=generator, dtype=torch.float64)
    if kind == "saturated":  # every value can move in one direction only
        images = images.round()
    elif kind == "dark":  # 8-bit, bounds of a few levels
        images, v = (images * 12).floor() / 255, 0.2 * v.sign() + v
    elif kind == "tight":  # the box binds almost everywhere
        images = images * 1e-3
    elif kind == "wild":  # metric over many orders of magnitude
        metric = 10 ** (3 * draw(batch_size, size))
    return tuple(x.to(dtype) for x in (v, metric, -images, 1 - images))


def critical_weight(name, v, metric, lower, upper):
    """Least weight for which the prox is zero: dual norm of what pulls into the box, from its definition."""
    pull = (metric * v).double()
    blocked = ((v > 0) & (upper == 0)) | ((v < 0) & (lower == 0))
    pull = pull.masked_fill(blocked, 0)
    return pull.norm(dim=1) if name == "l2" else pull.abs().amax(1)


def objective(name, z, v, metric, weight):
    z, v, metric = (x.double() for x in (z, v, metric))
    return 0.5 * (metric * (z - v) ** 2).sum(-1) + weight * norm(z.reshape(-1, z.shape[-1]), name).view(z.shape[:-1])


def assert_optimal(name, z, v, metric, weight, lower, upper, tolerance):
    """Optimality conditions of one image: the gradient vanishes but where it presses against the box.

    For l2 at z != 0 and for l1 they are written down with the subgradient; at zero the pull is compared to the weight.
    """
    z, v, metric, lower, upper = (x.double() for x in (z, v, metric, lower, upper))
    pull = metric * (v - z)
    scale = tolerance * (weight + (metric * v.abs()).amax())
    assert ((z >= lower) & (z <= upper)).all()
    if name == "l1":
        low, high = pull - weight, pull + weight  # set of minus the subgradients at 0; one end of it elsewhere
        low, high = torch.where(z < 0, high, low), torch.where(z > 0, low, high)
    elif z.norm() == 0:
        assert critical_weight("l2", v[None], metric[None], lower[None], upper[None]) <= weight * (1 + tolerance)
        return
    else:
        low = high = pull - weight * z / z.norm()
    # A step up is no gain unless the upper bound forbids it, and likewise down.
    assert ((low <= scale) | (z == upper)).all()
    assert ((high >= -scale) | (z == lower)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 7, 500, 20_000])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_optimality_conditions(name, size, kind):
    for seed in range(1 if size > 1000 else 6):
        v, metric, lower, upper = problem(seed, size, kind, batch_size=len(SHARES))
        weight = torch.tensor(SHARES) * critical_weight(name, v, metric, lower, upper)
        z, _ = prox(name, v, metric, weight, lower, upper)
        assert z[-1].abs().amax() == 0
        for i in range(len(v)):
            assert_optimal(name, z[i], v[i], metric[i], weight[i], lower[i], upper[i], 1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_no_feasible_point_is_better(name, kind):
    """Random points at all distances, those on the line to zero, and the fine neighbourhood of the result."""
    generator = torch.Generator().manual_seed(0)
    for seed in range(5):
        v, metric, lower, upper = problem(seed, 6, kind)
        for share in SHARES:
            weight = share * critical_weight(name, v, metric, lower, upper)
            z, _ = prox(name, v, metric, weight, lower, upper)
            least = objective(name, z, v, metric, weight)
            steps = torch.randn(2000, 6, generator=generator, dtype=torch.float64)
            sizes = 10 ** torch.linspace(-7, 0, 2000, dtype=torch.float64)[:, None]
            near = z + sizes * steps * z.abs().amax().clamp_min(1e-3)
            along = torch.linspace(0, 2, 500, dtype=torch.float64)[:, None] * z
            points = torch.cat((near, along)).clamp(lower, upper)
            assert (objective(name, points, v, metric, weight) >= least * (1 - 1e-13) - 1e-300).all()


@pytest.mark.parametrize("kind", ["plain", "saturated", "dark", "tight"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_brute_force_finds_the_same(name, share, kind):
    """Cyclic search over a grid that shrinks, on two values."""
    v, metric, lower, upper = problem(11, 2, kind)
    weight = share * critical_weight(name, v, metric, lower, upper)
    centre, width = np.zeros(2), 1.0
    offsets = np.stack(np.meshgrid(*[np.linspace(-1, 1, 41)] * 2), -1).reshape(-1, 2)
    for _ in range(60):
        points = torch.from_numpy(centre + width * offsets).clamp(lower, upper)
        centre = points[objective(name, points, v, metric, weight).argmin()].numpy()
        width *= 0.7
    z, _ = prox(name, v, metric, weight, lower, upper)
    np.testing.assert_allclose(z[0].numpy(), centre, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_zero_exactly_when_the_weight_is_large_enough(name):
    """Components that point out of a box without room there do not count."""
    for kind in ("plain", "saturated"):
        v, metric, lower, upper = problem(3, 300, kind)
        critical = critical_weight(name, v, metric, lower, upper)
        if kind == "saturated":
            assert critical < critical_weight(name, v, metric, lower - 1, upper + 1) - 1e-3 or name == "l1"
        above, _ = prox(name, v, metric, critical * (1 + 1e-9), lower, upper)
        below, _ = prox(name, v, metric, critical * (1 - 1e-6), lower, upper)
        assert above.abs().amax() == 0
        assert below.abs().amax() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_large_float32_images(name, kind):
    """As good as the result in float64 for the same numbers."""
    v, metric, lower, upper = problem(1, 200_000, kind, dtype=torch.float32)
    double = [x.double() for x in (v, metric, lower, upper)]
    for share in (0.01, 0.3, 0.9):
        weight = (share * critical_weight(name, *double)).float()
        z, _ = prox(name, v, metric, weight, lower, upper)
        expected, _ = prox(name, *double[:2], weight.double(), *double[2:])
        atol = 1e-9 if name == "l2" else 2e-8  # v - weight / H cancels; v has 24 bits
        torch.testing.assert_close(z.double(), expected, rtol=2e-6, atol=atol)
        assert ((z >= lower) & (z <= upper)).all()
        gap = objective(name, z, v, metric, weight) - objective(name, expected, v, metric, weight)
        assert gap.abs() <= 1e-8 * objective(name, expected, v, metric, weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3, 40])
def test_small_float32_images_are_optimal_within_rounding(size, kind):
    for seed in range(10):
        v, metric, lower, upper = problem(seed, size, kind, batch_size=len(SHARES), dtype=torch.float32)
        weight = (torch.tensor(SHARES) * critical_weight("l2", v, metric, lower, upper)).float()
        z, tau = prox_l2(v, metric, weight, lower, upper)
        for i in range(len(v)):
            assert_optimal("l2", z[i], v[i], metric[i], weight[i].double(), lower[i], upper[i], 1e-5)
        torch.testing.assert_close(tau, z.double().norm(dim=1), rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_guess_does_not_change_the_result(kind):
    v, metric, lower, upper = problem(2, 1000, kind, batch_size=3)
    weight = torch.tensor([0.05, 0.5, 0.95]) * critical_weight("l2", v, metric, lower, upper)
    _, cold = prox_l2(v, metric, weight, lower, upper)
    for guess in (cold, cold * 0.5, cold * 2, torch.full_like(cold, 1e9), torch.zeros_like(cold), cold * 1e-9):
        _, warm = prox_l2(v, metric, weight, lower, upper, guess)
        torch.testing.assert_close(warm, cold, rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
@pytest.mark.parametrize("size", [30, 2003])
def test_an_image_alone_gives_the_same_as_in_a_batch(size, name, dtype):
    v, metric, lower, upper = problem(5, size, "dark", batch_size=4, dtype=dtype)
    weight = torch.tensor([1e-3, 0.1, 0.5, 2.0]) * critical_weight("l2", v, metric, lower, upper)
    z, guess = prox(name, v, metric, weight.to(dtype), lower, upper, torch.full((4,), 0.1, dtype=dtype))
    for i in range(4):
        alone = (x[i : i + 1].clone() for x in (v, metric, weight.to(dtype), lower, upper))
        one, own = prox(name, *alone, torch.full((1,), 0.1, dtype=dtype))
        assert torch.equal(one[0], z[i])
        assert torch.equal(own[0], guess[i])


@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_without_weight_the_projection_onto_the_box(name):
    v, metric, lower, upper = problem(0, 300, "tight", batch_size=2)
    z, _ = prox(name, v, metric, torch.zeros(2, dtype=torch.float64), lower, upper)
    torch.testing.assert_close(z, v.clamp(lower, upper), rtol=0, atol=1e-15)


@pytest.mark.parametrize("weight", [0.0, 1.0, 1e30])
@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_of_zero_is_zero(name, weight):
    zero, ones = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    z, guess = prox(name, zero, ones, torch.full((2,), weight), -ones, ones, torch.zeros(2))
    assert torch.equal(z, zero)
    assert guess.tolist() == [0, 0]
    assert torch.equal(prox(name, ones, ones, torch.full((2,), weight), zero, zero)[0], zero)


@given(seed=st.integers(0, 10**6), size=st.integers(1, 60), share=st.floats(0.01, 0.99))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_block_soft_threshold_without_a_box(seed, size, share):
    """With a constant metric: `v max(0, 1 - weight / (h ||v||))`."""
    v = torch.randn(1, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    far, metric = torch.full_like(v, 1e6), torch.full_like(v, 3.0)
    z, tau = prox_l2(v, metric, share * 3 * v.norm(dim=1), -far, far)
    torch.testing.assert_close(z, v * (1 - share), rtol=1e-12, atol=0)
    torch.testing.assert_close(tau, v.norm(dim=1) * (1 - share), rtol=1e-12, atol=0)


def test_names():
    v, metric, lower, upper = problem(6, 50, "plain")
    weight = torch.tensor([0.01], dtype=torch.float64)
    for name, z in (
        ("linf", prox_linf(v, metric, weight, lower, upper)[0]),
        ("l2", prox_l2(v, metric, weight, lower, upper)[0]),
        ("l1", prox_l1(v, metric, weight, lower, upper)),
    ):
        assert torch.equal(prox(name, v, metric, weight, lower, upper)[0], z)
    with pytest.raises(ValueError, match="got 'l0'"):
        prox("l0", v, metric, weight, lower, upper)
