"""Lagrangian FMN: one number to choose, and nothing that depends on the scale of logits or of distances."""

from dataclasses import replace

import pytest
import torch
from oracles import LinearCase, Scaled, linear_case, slow_margin
from torch import nn

from segrobust.attacks import LagrangianFMN, Targeted
from segrobust.attacks.core.problem import make_problem
from segrobust.attacks.core.tracker import Iterate


def plain_and_scaled(factor, norm):
    """Results on a network, and on the same with logits times a factor."""
    case = linear_case(0, batch_size=2)
    attack = LagrangianFMN(num_passes=30, norm=norm)
    return tuple(attack(network, case.images, case.labels) for network in (case.network, Scaled(case.network, factor)))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_norms_do_not_depend_on_the_scale_of_the_logits(factor, norm):
    plain, scaled = plain_and_scaled(factor, norm)
    torch.testing.assert_close(scaled.norm, plain.norm, rtol=1e-2, atol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("factor", [0.125, 8.0])
def test_a_power_of_two_times_the_logits_changes_no_bit(factor, norm):
    plain, scaled = plain_and_scaled(factor, norm)
    assert torch.equal(scaled.adv, plain.adv)


@pytest.mark.parametrize("factor", [1 / 30, 0.2, 3.0])
def test_optima_of_any_size_are_found_with_50_passes(factor):
    case = linear_case(1, batch_size=2, dtype=torch.float64)
    images = 0.5 + factor * (case.images - 0.5)
    assert ((images >= 0) & (images <= 1)).all()
    with torch.no_grad():
        labels = case.network(images).argmax(1)
    assert torch.equal(labels, case.labels)  # logits are affine and zero at mid-grey
    result = LagrangianFMN(num_passes=50)(case.network, images, labels)
    optimum = factor * case.minimal_norms("linf")
    assert result.success.all()
    assert (result.norm >= optimum * (1 - 1e-9)).all()
    assert (result.norm <= 1.15 * optimum).all()


@pytest.mark.parametrize(("reach", "least", "most"), [(0.4, 0.3, 0.32), (110, 80, 87)])
def test_optima_far_beyond_the_images_are_found_with_50_passes(reach, least, most):
    """One class leads by an offset, so that optima lie between `least` and `most` (x/255), and images near mid-grey."""
    case = linear_case(0, batch_size=8, dtype=torch.float64)
    apart = case.network.weight.detach()[:, :, 0, 0]
    case.network.bias.data[0] += reach / 255 * (apart[0] - apart[1:]).abs().sum(1).min()
    images = 0.5 + reach / 200 * (case.images - 0.5).clamp(-0.1, 0.1)
    with torch.no_grad():
        case = LinearCase(case.network, images, case.network(images).argmax(1))
    optimum = case.minimal_norms("linf")
    assert ((255 * optimum > least) & (255 * optimum < most)).all()
    result = LagrangianFMN(num_passes=50)(case.network, case.images, case.labels)
    assert result.success.all()
    assert ((result.norm >= optimum * (1 - 1e-9)) & (result.norm <= 1.15 * optimum)).all()


@pytest.mark.parametrize("num_passes", [2, 3, 20])
def test_passes_stay_within_what_is_asked_for(num_passes):
    case = linear_case(0, batch_size=2)
    result = LagrangianFMN(num_passes=num_passes)(case.network, case.images, case.labels)
    assert torch.equal(result.num_forwards + result.num_backwards, torch.full((2,), 2 * num_passes))


def test_a_broken_image_costs_one_look_and_the_judgement():
    case = linear_case(0, batch_size=2)
    labels = (case.labels + 1) % 6
    result = LagrangianFMN(num_passes=20)(case.network, case.images, labels)
    assert (result.norm == 0).all()
    assert (result.num_forwards == 2).all()
    assert (result.num_backwards == 0).all()


def test_a_warm_start_that_succeeds_is_a_bound():
    case = linear_case(0, batch_size=2)
    attack = LagrangianFMN(num_passes=20)
    first = attack(case.network, case.images, case.labels)
    again = attack(case.network, case.images, case.labels, start=first.adv - case.images)
    assert (again.norm <= first.norm * (1 + 1e-6)).all()
    assert (again.first_success == 0).all()


def test_a_warm_start_that_fails_is_not_cut_down():
    case = linear_case(0, batch_size=2)
    start = torch.where(torch.rand_like(case.images) < 0.5, -0.2, 0.2)
    norms = []
    LagrangianFMN(num_passes=4)(
        case.network, case.images, case.labels, start=start, observer=lambda iterate: norms.append(iterate.norm)
    )
    assert (norms[1] >= 0.19).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_given_radius_takes_the_place_of_the_first_order_distance(norm):
    case = linear_case(0, batch_size=2)
    eps = torch.tensor([0.01, 0.04])
    norms = []
    LagrangianFMN(num_passes=4, norm=norm)(
        case.network, case.images, case.labels, eps=eps, observer=lambda iterate: norms.append(iterate.norm)
    )
    assert (norms[1][0] / norms[1][1]).item() == pytest.approx(0.25, rel=1e-5)
    assert (norms[1] <= eps).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_six_passes_go_on_where_an_epoch_before_left_off(seed):
    case = linear_case(seed, batch_size=4)
    before = LagrangianFMN(num_passes=30)(case.network, case.images, case.labels)
    with torch.no_grad():
        case.network.weight += 0.03 * torch.randn(case.network.weight.shape, generator=torch.Generator().manual_seed(1))
    short = LagrangianFMN(num_passes=6)
    cold = short(case.network, case.images, case.labels)
    warm = short(case.network, case.images, case.labels, start=before.adv - case.images, eps=before.norm)
    best = LagrangianFMN(num_passes=100)(case.network, case.images, case.labels).norm
    assert torch.equal(warm.num_forwards + warm.num_backwards, torch.full((4,), 12))
    assert (warm.norm <= 1.25 * best).all()
    assert cold.norm.isinf().any()


def test_after_a_success_all_iterates_are_smaller_than_the_smallest():
    case = linear_case(2, batch_size=4)
    smallest = torch.full((4,), torch.inf)

    def look(iterate):
        nonlocal smallest
        assert (iterate.norm <= smallest * (1 - 5e-4)).all()
        smallest = torch.where(iterate.success, torch.minimum(smallest, iterate.norm), smallest)

    LagrangianFMN(num_passes=60)(case.network, case.images, case.labels, observer=look)
    assert smallest.isfinite().all()


def test_weights_follow_the_margins_within_their_bounds():
    case = linear_case(0, batch_size=1, dtype=torch.float64)
    valid = torch.ones_like(case.labels, dtype=torch.bool)
    valid[:, :4] = False
    problem = make_problem(case.images, case.labels, valid_mask=valid, norm="linf")
    attack = LagrangianFMN()
    delta, state = attack.init(problem)
    delta = delta + 0.03 * torch.randn(delta.shape, generator=torch.Generator().manual_seed(0), dtype=delta.dtype)
    with torch.no_grad():
        logits = case.network(case.images + delta)
    v = slow_margin(logits, case.labels)
    expected = torch.exp(0.1 * torch.tanh(v / v[valid].abs().mean()))
    count = torch.zeros(1, dtype=torch.long)
    for step in range(1, 61):
        iterate = Iterate(step, count, delta, logits, v < 0, count, count > 0, delta[:, 0, 0, 0], delta[:, 0, 0, 0])
        state = attack.observe(problem, iterate, state)
        weights = (expected**step).clamp(1 / 20, 20) * valid
        torch.testing.assert_close(state.weights, weights)
    assert state.weights.max() == 20
    assert state.weights[valid].min() == 1 / 20


def test_the_radius_returns_where_growth_does_not_help():
    """Farther from success than before ten times in a row: back to where it was nearest, and no growth from there."""
    case = linear_case(0, batch_size=1)
    problem = make_problem(case.images, case.labels, norm="linf")
    attack = LagrangianFMN(num_passes=300)
    delta, state = attack.init(problem)
    with torch.no_grad():
        logits = case.network(case.images)
    shortfalls, radii = [0.5, 0.4] + 14 * [0.45] + [0.3, 0.3], []
    for step, shortfall in enumerate(shortfalls):
        iterate = attack.iterate(problem, step, torch.tensor([0]), delta, logits)
        iterate = replace(iterate, shortfall=torch.tensor([shortfall], dtype=torch.float64))
        state = attack.observe(problem, iterate, state)
        radii.append(state.radius.item())  # within which this iterate was found
        attack.update(problem, iterate, torch.ones_like(delta), state)
    grown = 1.32  # all pixels are unbroken
    assert radii[2:12] == pytest.approx([radii[1] * grown**i for i in range(1, 11)], rel=1e-3)
    assert radii[12:17] == pytest.approx([radii[1]] * 5)
    assert radii[17] == pytest.approx(grown * radii[1], rel=1e-3)


def test_more_passes_go_no_farther_with_targets():
    """All pixels stay unbroken, so that the radius grows as fast as it may."""
    case = linear_case(0, batch_size=1)
    problem = make_problem(case.images, case.labels, targets=(case.labels + 1) % 6, norm="linf")
    with torch.no_grad():
        logits = case.network(case.images)
    grown = []
    for num_passes in (25, 100, 400):
        attack, radii = LagrangianFMN(num_passes=num_passes, criterion=Targeted()), []
        delta, state = attack.init(problem)
        for step in range(num_passes):
            iterate = attack.iterate(problem, step, torch.tensor([0]), delta, logits)
            state = attack.observe(problem, iterate, state)
            attack.update(problem, iterate, torch.ones_like(delta), state)
            radii.append(state.radius.item())
        grown.append(radii[-1] / radii[0])
    assert grown[0] > 100
    assert max(grown) < 4 * min(grown)  # of steps, which compound


@pytest.mark.parametrize("second", [True, False])
def test_targeted_norms_fall_with_more_passes(second):
    case = linear_case(1, batch_size=2)
    with torch.no_grad():
        likely = case.network(case.images).topk(2, dim=1).indices[:, 1]
    targets = likely if second else (case.labels + 1) % 6
    norms = [
        LagrangianFMN(num_passes=n, criterion=Targeted())(case.network, case.images, case.labels, targets=targets).norm
        for n in (25, 50, 100)
    ]
    assert norms[0].isfinite().all()
    assert (norms[1] <= 1.01 * norms[0]).all()
    assert (norms[2] <= 1.01 * norms[1]).all()


def test_a_constant_network_fails_without_nan():
    network = nn.Conv2d(3, 4, 1)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    result = LagrangianFMN(num_passes=10)(network, torch.rand(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long))
    assert not result.success.any()
    assert result.adv.isfinite().all()


def test_one_pass_is_refused():
    with pytest.raises(ValueError, match=r"num_passes must be at least 2.*got 1"):
        LagrangianFMN(num_passes=1)


def test_l1_is_refused():
    with pytest.raises(ValueError, match="linf, l2"):
        LagrangianFMN(norm="l1")
