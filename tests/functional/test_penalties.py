import pytest
import torch

from segrobust.functional.penalties import penalty, penalty_derivative

Y = torch.tensor([-50.0, -2.0, -0.3, -1e-3, 1e-3, 0.2, 1.0, 4.0], dtype=torch.float64)


@pytest.mark.parametrize("rho", [0.01, 0.5, 1.0, 30.0])
@pytest.mark.parametrize("mu", [1e-12, 0.7, 1.0])
def test_exact_derivative_is_that_of_the_penalty(rho, mu):
    rho, mu = (torch.full_like(Y, value) for value in (rho, mu))
    y = Y.clone().requires_grad_()
    (automatic,) = torch.autograd.grad(penalty(y, rho, mu).sum(), y)
    torch.testing.assert_close(penalty_derivative(Y, rho, mu), automatic, rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(lambda value: penalty(value, rho, mu), (y,), eps=1e-7, rtol=1e-4)


@pytest.mark.parametrize("rho", [0.01, 5.0])
def test_penalty_is_continuous_with_slope_mu_at_zero(rho):
    rho, mu = torch.tensor(rho), torch.tensor(0.7)
    zero = torch.tensor(0.0, dtype=torch.float64)
    assert penalty(zero, rho, mu).item() == 0
    for side in (-1e-9, 0.0, 1e-9):
        assert penalty_derivative(zero + side, rho, mu).item() == pytest.approx(0.7, abs=1e-6)


@pytest.mark.parametrize(
    ("y", "exact", "published"),
    [(1e-3, 0.7007, 0.0014), (0.1, 0.77125, 0.14125), (0.5, 1.08125, 0.73125), (1.0, 1.525, 1.525)],
)
def test_derivative_of_the_published_code(y, exact, published):
    """mu = 0.7, rho = 0.5: mu y takes the place of mu where the constraint is violated."""
    y, rho, mu = (torch.tensor(value, dtype=torch.float64) for value in (y, 0.5, 0.7))
    assert penalty_derivative(y, rho, mu).item() == pytest.approx(exact, abs=5e-5)
    assert penalty_derivative(y, rho, mu, "published").item() == pytest.approx(published, abs=5e-5)


def test_both_derivatives_agree_where_the_constraint_is_satisfied():
    rho, mu = torch.full_like(Y, 0.5), torch.full_like(Y, 0.7)
    satisfied = Y < 0
    exact, published = penalty_derivative(Y, rho, mu), penalty_derivative(Y, rho, mu, "published")
    assert torch.equal(exact[satisfied], published[satisfied])


def test_penalty_increases_and_is_convex():
    y = torch.linspace(-5, 5, 401, dtype=torch.float64)
    slope = penalty_derivative(y, torch.full_like(y, 2.0), torch.full_like(y, 0.3))
    assert (slope > 0).all()
    assert (slope.diff() >= 0).all()
