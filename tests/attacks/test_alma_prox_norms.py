"""ALMA-prox in l2 and l1, for which its paper has no figures: exact optima, and what the norm changes."""

from dataclasses import replace

import pytest
import torch
from oracles import linear_case
from tolerances import ALMA_PROX_RATIO

from segrobust.attacks import AlmaProx, Targeted
from segrobust.functional.margins import dlr
from segrobust.functional.penalties import penalty
from segrobust.functional.prox import prox


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["l2", "l1"])
def test_norms_are_close_to_the_optimum(name, seed):
    case = linear_case(seed, batch_size=2)
    valid = torch.ones_like(case.labels, dtype=torch.bool)
    if seed == 1:
        valid[1, :, ::2] = False
    result = AlmaProx(norm=name)(case.network, case.images, case.labels, valid_mask=valid)
    assert result.success.all()
    found = result.norm / case.minimal_norms(name, valid)
    assert (found >= 1 - 1e-5).all()
    assert (found <= ALMA_PROX_RATIO[name]).all()


@pytest.mark.parametrize("name", ["l2", "l1"])
def test_each_norm_is_smallest_where_it_is_minimised(name):
    case = linear_case(3, batch_size=2)
    results = {norm: AlmaProx(norm=norm)(case.network, case.images, case.labels) for norm in ("linf", "l2", "l1")}
    order = {"l2": 2, "l1": 1}[name]
    lengths = {
        norm: torch.linalg.vector_norm((result.adv - case.images).flatten(1), ord=order, dim=1)
        for norm, result in results.items()
    }
    assert torch.allclose(lengths[name], results[name].norm)
    for other in set(lengths) - {name}:
        assert (lengths[name] < lengths[other]).all()


@pytest.mark.parametrize(("name", "exponent"), [("linf", 0), ("l2", 0.5), ("l1", 1)])
def test_the_first_step_is_that_of_the_definition(name, exponent):
    """By autograd of the penalty; the metric is |g|, and the norm is that over D^(1/p)."""
    case = linear_case(4, dtype=torch.float64)
    attack = AlmaProx(norm=name, num_steps=1)
    seen = []
    attack(case.network, case.images, case.labels, observer=lambda i: seen.append(i.delta))
    multiplier, start, tolerance = (1.0, 0.01, 1e-4) if name == "linf" else (0.01, 0.1, 1e-3)
    images = case.images.clone().requires_grad_()
    constraints = dlr(case.network(images), case.labels, tolerance=tolerance)
    rho, mu = torch.full_like(constraints, start), torch.full_like(constraints, multiplier)
    (gradient,) = torch.autograd.grad(penalty(constraints, rho, mu).sum(), images)
    weight = torch.tensor([attack.step_size / images.numel() ** exponent], dtype=torch.float64)
    metric = gradient.abs().clamp_min(1e-8)
    bounds = -case.images, 1 - case.images
    expected, _ = prox(name, -attack.step_size * gradient / metric, metric, weight, *bounds)
    torch.testing.assert_close(seen[1], expected, rtol=1e-9, atol=1e-12)
    assert seen[1].abs().amax() > 0


@pytest.mark.parametrize("name", ["l2", "l1"])
def test_targets_are_reached(name):
    case = linear_case(0, num_classes=4)
    targets = (case.labels + 1) % 4
    attack = AlmaProx(norm=name, num_steps=300, criterion=Targeted())
    result = attack(case.network, case.images, case.labels, targets=targets)
    assert result.success.all()
    assert ((result.prediction == targets).float().mean() >= 0.99).all()


@pytest.mark.parametrize("name", ["l2", "l1"])
def test_settings_that_follow_the_norm_are_those_that_are_documented(name):
    case = linear_case(2)
    base = AlmaProx(norm=name, num_steps=30)
    written = replace(base, initial_multiplier=0.01, initial_penalty=0.1, tolerance=1e-3)
    last = base.perturb(case.network, case.images, case.labels)
    assert torch.equal(written.perturb(case.network, case.images, case.labels), last)
    for change in ({"initial_multiplier": 1.0}, {"initial_penalty": 0.01}, {"tolerance": 1e-2}):
        assert not torch.equal(replace(base, **change).perturb(case.network, case.images, case.labels), last)


def test_linf_keeps_the_settings_of_the_paper():
    case = linear_case(2)
    base = AlmaProx(num_steps=30)
    written = replace(base, initial_multiplier=1.0, initial_penalty=0.01, tolerance=1e-4)
    last = base.perturb(case.network, case.images, case.labels)
    assert torch.equal(written.perturb(case.network, case.images, case.labels), last)


@pytest.mark.parametrize("name", ["l2", "l1"])
def test_dark_images_stay_in_the_box(name):
    """Half of all values cannot fall."""
    case = linear_case(1)
    images = case.images * (torch.arange(32) % 2)
    labels = case.network(images).argmax(1)
    seen = []
    AlmaProx(norm=name, num_steps=60)(case.network, images, labels, observer=lambda i: seen.append(i.delta))
    for delta in seen:
        assert ((images + delta >= 0) & (images + delta <= 1)).all()
    assert seen[-1].abs().amax() > 0
