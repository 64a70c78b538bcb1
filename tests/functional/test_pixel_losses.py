import math

import pytest
import torch

from segrobust.functional.pixel_losses import (
    cosine_to_reference,
    cross_entropy,
    jensen_shannon,
    kl_divergence,
    softmax_probability,
    tsallis,
)


@pytest.fixture(scope="module")
def z():
    return 3 * torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def reference():
    return torch.randint(5, (2, 6, 7), generator=torch.Generator().manual_seed(1))


def one_hot(reference):
    return torch.nn.functional.one_hot(reference, 5).movedim(-1, 1).double()


def kl(p, q):
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(1)


def defined_jensen_shannon(z, reference):
    p, e = z.softmax(1), one_hot(reference)
    middle = (p + e) / 2
    return (kl(p, middle) + kl(e, middle)) / 2


def defined_tsallis(q):
    return lambda z, reference: (1 - (z.softmax(1) * one_hot(reference)).sum(1) ** (1 - q)) / (1 - q)


def defined_probability(temperature):
    def defined(z, reference):
        powers = (z / torch.tensor(temperature, dtype=z.dtype)[:, None, None, None]).exp()
        return (powers * one_hot(reference)).sum(1) / powers.sum(1)

    return defined


def defined_cosine(z, reference):
    return torch.nn.functional.cosine_similarity(z, one_hot(reference), dim=1)


@pytest.mark.parametrize(
    ("loss", "definition"),
    [
        (cross_entropy, lambda z, reference: -(z.softmax(1) * one_hot(reference)).sum(1).log()),
        (jensen_shannon, defined_jensen_shannon),
        (lambda z, r: tsallis(z, r, -2.0), defined_tsallis(-2.0)),
        (lambda z, r: tsallis(z, r, 0.5), defined_tsallis(0.5)),
        (lambda z, r: tsallis(z, r, 1 - 1e-9), lambda z, r: cross_entropy(z, r)),
        (lambda z, r: tsallis(z, r, 1.0), lambda z, r: cross_entropy(z, r)),
        (cosine_to_reference, defined_cosine),
        (
            lambda z, r: softmax_probability(z, r, torch.tensor([0.7, 2.0], dtype=z.dtype)),
            defined_probability([0.7, 2.0]),
        ),
    ],
)
def test_losses_and_gradients_equal_their_definitions(z, reference, loss, definition):
    results = []
    for function in (loss, definition):
        logits = z.clone().requires_grad_()
        value = function(logits, reference)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        results.append((value, gradient))
    (value, gradient), (expected, expected_gradient) = results
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-8)


def test_kl_divergence_equals_its_definition(z):
    other = z.flip(1)
    torch.testing.assert_close(kl_divergence(other.log_softmax(1), z), kl(other.softmax(1), z.softmax(1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [500.0, -500.0])
def test_no_nan_at_a_large_gap_of_logits(dtype, gap):
    """The reference class has lost, or won, so clearly that a probability is 0."""
    logits = torch.zeros(1, 3, 1, 1, dtype=dtype)
    logits[0, 0] = gap
    reference = torch.zeros(1, 1, 1, dtype=torch.int64)
    log_p = logits.flip(1).log_softmax(1)
    for loss in (
        cross_entropy,
        jensen_shannon,
        cosine_to_reference,
        *(lambda z, r, q=q: tsallis(z, r, q) for q in (-2.0, 0.0, 1.0)),
        lambda z, r: kl_divergence(log_p, z),
        *(lambda z, r, t=t: softmax_probability(z, r, torch.full((1,), t, dtype=dtype)) for t in (1e-30, 1.0, 1e30)),
    ):
        z = logits.clone().requires_grad_()
        value = loss(z, reference)
        (gradient,) = torch.autograd.grad(value.sum(), z)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


def test_bounds_of_jensen_shannon():
    z = torch.tensor([[1e3, 0.0, 0.0], [0.0, 1e3, 0.0]])[:, :, None, None]
    values = jensen_shannon(z, torch.zeros(2, 1, 1, dtype=torch.int64)).flatten()
    torch.testing.assert_close(values, torch.tensor([0.0, math.log(2)]))


def test_a_softmax_probability_of_the_largest_logits_that_float32_has():
    z = torch.tensor([3e38, -3e38, 0.0]).view(1, 3, 1, 1).requires_grad_()
    for label, expected in ((0, 1.0), (1, 0.0), (2, 0.0)):
        value = softmax_probability(z, torch.full((1, 1, 1), label), torch.tensor([1e-3]))
        (gradient,) = torch.autograd.grad(value.sum(), z)
        assert value.item() == expected
        assert gradient.isfinite().all()
