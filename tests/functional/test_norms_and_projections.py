import pytest
import torch

from segrobust.functional.norms import norm
from segrobust.functional.projections import project, project_ball
from segrobust.functional.steps import steepest_ascent


def batch(seed=0, scale=1.0):
    return scale * torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("name", "expected"), [("linf", [4.0, 0.0]), ("l2", [5.0, 0.0]), ("l1", [7.0, 0.0])])
def test_norms_of_a_hand_made_batch(name, expected):
    delta = torch.zeros(2, 3, 2, 2)
    delta[0, 0, 0, 0], delta[0, 2, 1, 1] = 3.0, -4.0
    assert norm(delta, name).tolist() == expected


@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_projection_is_the_closest_point_of_the_ball(name):
    """Variational inequality: <v - Pv, u - Pv> <= 0 for every u of the ball."""
    v, eps = batch(), torch.tensor([0.3, 1.0, 2.5, 1e3], dtype=torch.float64)
    projected = project_ball(v, eps, name)
    assert (norm(projected, name) <= eps * (1 + 1e-12)).all()
    assert torch.equal(projected[3], v[3])  # inside the ball nothing moves
    assert not torch.equal(projected[0], v[0])
    for seed in range(50):
        u = batch(seed + 1)
        u = u * (eps / norm(u, name))[:, None, None, None]
        assert (((v - projected) * (u - projected)).flatten(1).sum(1) <= 1e-9).all()


def test_projection_onto_the_intersection_of_linf_ball_and_box_is_exact():
    v, eps = batch(), torch.full((4,), 0.4, dtype=torch.float64)
    lower, upper = -batch(1).abs(), batch(2).abs()
    expected = torch.minimum(torch.maximum(v, torch.maximum(lower, -eps[0])), torch.minimum(upper, eps[0]))
    assert torch.equal(project(v, eps, "linf", lower, upper), expected)


@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_projected_points_lie_in_ball_and_box(name):
    v, eps = batch(scale=5), torch.tensor([0.1, 0.5, 2.0, 4.0], dtype=torch.float64)
    lower, upper = -batch(1).abs(), batch(2).abs()
    projected = project(v, eps, name, lower, upper)
    assert (norm(projected, name) <= eps * (1 + 1e-12)).all()
    assert ((projected >= lower) & (projected <= upper)).all()


def test_projection_of_zero_onto_a_small_l2_ball_is_zero():
    zero = torch.zeros(1, 3, 2, 2)
    assert torch.equal(project_ball(zero, torch.tensor([1e-9]), "l2"), zero)


def test_projection_onto_an_unknown_ball_is_refused():
    with pytest.raises(ValueError, match=r"'l0'.*'linf', 'l2' or 'l1'"):
        project_ball(batch(), torch.ones(4), "l0")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projection_onto_the_l1_ball_is_a_soft_threshold(dtype):
    """Optimality: all values lose the same t or become zero, and the radius is met; t by bisection."""
    v, eps = batch().to(dtype), torch.tensor([0.3, 1.0, 2.5, 20.0], dtype=dtype)
    projected = project_ball(v, eps, "l1")
    assert projected.dtype == dtype
    for x, radius, found in zip(v.double(), eps.double(), projected, strict=True):
        low, high = torch.zeros((), dtype=torch.float64), x.abs().amax()
        for _ in range(200):
            t = (low + high) / 2
            outside = (x.abs() - t).clamp_min(0).sum() > radius
            low, high = torch.where(outside, t, low), torch.where(outside, high, t)
        expected = x.sign() * (x.abs() - high).clamp_min(0)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-6)


def test_l1_projection_of_ties_zeros_and_edges():
    corner = torch.tensor([[3.0, -3.0, 0.0], [1.0, -0.25, 0.25], [2.0, 1.0, 0.0], [1.0, 1.0, 1.0], [5.0, 1.0, 1.0]])
    eps = torch.tensor([2.0, 1.5, 0.0, torch.inf, 1.0])
    expected = torch.tensor([[1.0, -1.0, 0.0], [1.0, -0.25, 0.25], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    assert torch.equal(project_ball(corner, eps, "l1"), expected)


def test_l1_projection_keeps_its_radius_over_many_values():
    """In float32, sums of a million values and a rounded threshold would miss it."""
    v = torch.rand(1, 1_000_000, generator=torch.Generator().manual_seed(0))
    for radius in (1.0, 1e3):
        projected = project_ball(v, torch.tensor([radius]), "l1")
        assert norm(projected.double(), "l1").item() == pytest.approx(radius, rel=1e-6)
    inside = v * 1e-4
    assert torch.equal(project_ball(inside, torch.tensor([51.0]), "l1"), inside)


@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
def test_projection_of_an_image_does_not_depend_on_its_batch(name):
    v, eps = batch(), torch.tensor([0.3, 1.0, 2.5, 1e3], dtype=torch.float64)
    together = project_ball(v, eps, name)
    for i in range(4):
        assert torch.equal(project_ball(v[i : i + 1], eps[i : i + 1], name)[0], together[i])


@pytest.mark.parametrize(("name", "dual"), [("linf", "l1"), ("l2", "l2")])
def test_steepest_ascent_reaches_the_dual_norm(name, dual):
    """max of <g, d> over ||d|| <= 1 is the dual norm of g."""
    gradient = batch()
    direction = steepest_ascent(gradient, name)
    assert (norm(direction, name) <= 1 + 1e-12).all()
    torch.testing.assert_close((gradient * direction).flatten(1).sum(1), norm(gradient, dual))


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_steepest_ascent_of_a_zero_gradient_is_zero(name):
    zero = torch.zeros(2, 3, 4, 4)
    assert torch.equal(steepest_ascent(zero, name), zero)


def test_steepest_ascent_in_l1_is_refused():
    with pytest.raises(ValueError, match="l1"):
        steepest_ascent(batch(), "l1")
