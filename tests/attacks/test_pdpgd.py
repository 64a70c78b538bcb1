"""PDPGD: exact optima, its weights, and the published form; its first steps: `test_reference_trajectories.py`."""

from dataclasses import replace

import pytest
import torch
from oracles import linear_case, slow_margin
from tolerances import PDPGD_RATIO
from torch import nn

from segrobust.attacks import Targeted, Untargeted
from segrobust.attacks import pdpgd as module
from segrobust.attacks.pdpgd import PDPGD, prox_iterated
from segrobust.functional.prox import prox

NORMS = ["linf", "l2", "l1"]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", NORMS)
def test_norms_are_close_to_the_optimum(name, seed):
    case = linear_case(seed, batch_size=2)
    valid = torch.ones_like(case.labels, dtype=torch.bool)
    if seed == 1:
        valid[1, :, ::2] = False
    result = PDPGD(norm=name, num_steps=300)(case.network, case.images, case.labels, valid_mask=valid)
    assert result.success.all()
    found = result.norm / case.minimal_norms(name, valid)
    assert (found >= 1 - 1e-5).all()
    assert (found <= PDPGD_RATIO[name]).all()


@pytest.mark.parametrize(("name", "published"), [("linf", False), ("l2", False), ("l1", False), ("linf", True)])
def test_targets_are_reached(name, published):
    case = linear_case(0, num_classes=4)
    targets = (case.labels + 1) % 4
    attack = PDPGD(norm=name, num_steps=200, criterion=Targeted(), published=published)
    result = attack(case.network, case.images, case.labels, targets=targets)
    assert result.success.all()
    assert ((result.prediction == targets).float().mean() >= 0.99).all()


@pytest.mark.parametrize(("name", "exponent"), [("linf", 0), ("l2", 0.5), ("l1", 1)])
def test_the_first_step_is_that_of_the_definition(name, exponent):
    """By autograd of the objective; the metric is |g|, the weights are equal, and the norm is that over D^(1/p)."""
    case = linear_case(4, dtype=torch.float64)
    seen = []
    PDPGD(norm=name, num_steps=1)(case.network, case.images, case.labels, observer=lambda i: seen.append(i.delta))
    images = case.images.clone().requires_grad_()
    margins = slow_margin(case.network(images), case.labels)
    scale = margins.detach().abs().mean()
    loss = nn.functional.softplus(4 * margins / scale).sum() / (2 * margins.numel())
    (gradient,) = torch.autograd.grad(loss, images)
    metric, weight = gradient.abs() + 1e-8, torch.tensor([0.01 / images.numel() ** exponent], dtype=torch.float64)
    expected, _ = prox(name, -0.01 * gradient / metric, metric, weight, -case.images, 1 - case.images)
    torch.testing.assert_close(seen[1], expected, rtol=1e-9, atol=1e-12)
    if name != "linf":  # whose pull is as strong as all pixels' at first
        assert seen[1].abs().amax() > 0


def test_counts_of_passes():
    case = linear_case(0, batch_size=2)
    result = PDPGD(num_steps=7)(case.network, case.images, case.labels)
    assert result.num_forwards.tolist() == [9, 9]
    assert result.num_backwards.tolist() == [7, 7]


def test_two_classes_suffice():
    case = linear_case(0, num_classes=2)
    assert PDPGD(num_steps=150)(case.network, case.images, case.labels).success.all()


@pytest.mark.parametrize("name", NORMS)
def test_the_scale_of_the_logits_has_no_influence(name):
    """A power of two, so that not even rounding differs."""
    case = linear_case(3, dtype=torch.float64)
    steep = nn.Conv2d(3, 6, 1, dtype=torch.float64)
    steep.weight.data, steep.bias.data = case.network.weight.data * 1024, case.network.bias.data * 1024
    attack = PDPGD(norm=name, num_steps=30)
    one, other = (attack.perturb(network, case.images, case.labels) for network in (case.network, steep))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_shares_are_a_softmax_with_the_norm_as_a_class():
    generator = torch.Generator().manual_seed(0)
    for size in (1.0, 10.0, 27.0):
        log_weights = size * torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
        log_weights[0, 0] = -torch.inf
        expected = nn.functional.pad(log_weights.flatten(1), (1, 0)).softmax(1)
        for dtype, rtol in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
            pixels, own = module._shares(log_weights.to(dtype))
            torch.testing.assert_close(own.double(), expected[:, 0], rtol=rtol, atol=1e-30)
            torch.testing.assert_close(pixels.double().flatten(1), expected[:, 1:], rtol=rtol, atol=1e-30)


@pytest.mark.parametrize("published", [False, True])
def test_log_weights_keep_their_bounds(published):
    """Above all with a constraint that cannot be met, and one that is met from the start."""
    case = linear_case(0, batch_size=2)
    labels = torch.stack((case.labels[0], (case.labels[1] + 1) % 6))
    perturbable_mask = torch.zeros_like(labels, dtype=torch.bool)
    seen = []

    class Recording(PDPGD):
        def observe(self, problem, iterate, state):
            observed = super().observe(problem, iterate, state)
            seen.append((observed.log_weights, observed.level - state.level, observed.level))
            return observed

    attack = Recording(num_steps=400, published=published)
    attack(case.network, case.images, labels, perturbable_mask=perturbable_mask)
    assert len(seen) == 400
    for log_weights, moved, level in seen:
        if published:
            assert (moved == 0).all()
            assert (log_weights.abs() <= 27.64).all()
        else:
            assert moved[0] >= 0 >= moved[1]
            assert ((log_weights - level[:, None, None]).abs() <= 3 + 1e-5).all()
    last = seen[-1][0]
    assert last[0].amax() > 10  # 400 steps of 0.055 from -6.6
    assert last[1].amax() < -20


def test_a_broken_image_returns_to_zero():
    case = linear_case(0)
    wrong = (case.labels + 1) % 6
    start = torch.full_like(case.images, 1e-3)
    seen = []
    PDPGD(num_steps=60)(case.network, case.images, wrong, start=start, observer=lambda i: seen.append(i))
    assert torch.equal(seen[0].delta, start)
    assert seen[0].success.all()
    assert seen[-1].success.all()
    assert seen[-1].norm.tolist() == [0]


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", NORMS)
def test_a_network_without_gradient_leaves_zero(name, published):
    case = linear_case(0)
    flat = nn.Conv2d(3, 6, 1)
    flat.weight.data.zero_()
    flat.bias.data = torch.arange(6.0)
    result = PDPGD(norm=name, num_steps=20, published=published)(flat, case.images, torch.full_like(case.labels, 5))
    assert not result.success.any()
    assert torch.equal(result.adv, case.images)


def test_every_field_has_an_effect():
    """Of the criterion: once some iterates are successes, which fewer of them are for a larger share."""
    case = linear_case(2)
    changes = [
        {},
        {"norm": "l2"},
        {"norm": "l1"},
        {"step_size": 5e-3},
        {"published": True},
        {"criterion": Untargeted(apsr=0.9)},
        {"num_steps": 70},
    ]
    base = PDPGD(num_steps=60)
    last = [replace(base, **change).perturb(case.network, case.images, case.labels) for change in changes]
    for i, one in enumerate(last):
        for j, other in enumerate(last[:i]):
            assert not torch.equal(one, other), (changes[i], changes[j])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": "l0"}, "linf, l2, l1"),
        ({"num_steps": 0}, "num_steps"),
        ({"step_size": 0.0}, "step_size is in image units"),
        ({"step_size": 2.0}, "step_size is in image units"),
    ],
)
def test_fields_without_meaning_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PDPGD(**fields)


@pytest.mark.parametrize("name", NORMS)
def test_the_published_iteration_ends_at_the_exact_prox_where_it_has_one_step_to_go(name):
    """With a constant metric and a box that is far, the first iteration is the prox itself."""
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    metric, far = torch.full_like(v, 3.0), torch.full_like(v, 100.0)
    weight = torch.tensor([0.5, 2.0], dtype=torch.float64)
    expected, _ = prox(name, v, metric, weight, -far, far)
    torch.testing.assert_close(prox_iterated(name, v, metric, weight, -far, far), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NORMS)
def test_the_published_iteration_approaches_the_exact_prox(name, monkeypatch):
    """Many more iterations of it find the same; five do not."""
    generator = torch.Generator().manual_seed(2)
    v = torch.randn(1, 50, generator=generator, dtype=torch.float64)
    metric = torch.rand(1, 50, generator=generator, dtype=torch.float64) + 0.05
    far, weight = torch.full_like(v, 100.0), torch.tensor([0.3], dtype=torch.float64)
    expected, _ = prox(name, v, metric, weight, -far, far)
    few = prox_iterated(name, v, metric, weight, -far, far)
    monkeypatch.setattr("segrobust.attacks.pdpgd.PROX_ITERATIONS", 2000)
    monkeypatch.setattr("segrobust.attacks.pdpgd.PROX_CHANGE", 0.0)
    many = prox_iterated(name, v, metric, weight, -far, far)
    torch.testing.assert_close(many, expected, rtol=0, atol=1e-6)
    assert (few - expected).abs().amax() > 1e-4
