"""Calibrated ALMA-prox: from a warm start towards the optimum, whatever the scale of distances and logits."""

import pytest
import torch
from conformance import ConvNetwork, make_batch
from oracles import Scaled, linear_case

from segrobust.attacks import PGD, AlmaProx, CalibratedAlmaProx, LagrangianFMN, Targeted, WarmStarted
from segrobust.functional.norms import norm as norm_of


def warm_started(first, steps, norm="linf"):
    return WarmStarted(
        first=LagrangianFMN(num_passes=first, norm=norm), attack=CalibratedAlmaProx(num_steps=steps, norm=norm)
    )


@pytest.mark.parametrize(("factor", "dtype"), [(1 / 30, torch.float64), (0.2, torch.float64), (3.0, torch.float32)])
def test_optima_of_any_size_are_found(factor, dtype):
    case = linear_case(1, batch_size=2, dtype=dtype)
    images = 0.5 + factor * (case.images - 0.5)
    result = warm_started(12, 60)(case.network, images, case.labels)
    optimum = factor * case.minimal_norms("linf")
    assert (result.norm >= optimum * (1 - 1e-5)).all()
    assert (result.norm <= 1.1 * optimum).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_start_far_out_is_brought_in(norm):
    case = linear_case(0, batch_size=4, dtype=torch.float64)
    start = 3 * (LagrangianFMN(num_passes=10, norm=norm)(case.network, case.images, case.labels).adv - case.images)
    result = CalibratedAlmaProx(num_steps=80, norm=norm)(case.network, case.images, case.labels, start=start)
    assert (result.first_success == 0).all()
    assert (result.norm <= 1.4 * case.minimal_norms(norm)).all()


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_norms_do_not_depend_on_the_scale_of_the_logits(factor):
    case = linear_case(0, batch_size=2, dtype=torch.float64)
    plain, scaled = (
        warm_started(12, 40)(n, case.images, case.labels) for n in (case.network, Scaled(case.network, factor))
    )
    torch.testing.assert_close(scaled.norm, plain.norm, rtol=1e-6, atol=0)


def test_the_weight_of_the_norm_is_the_dual_norm_of_the_penalty_at_the_first_success():
    """And the step after it is a fifth of the norm found, in every value that the prox does not hold back."""
    case = linear_case(0, batch_size=2, dtype=torch.float64)
    start = LagrangianFMN(num_passes=20)(case.network, case.images, case.labels).adv - case.images
    seen, gradients = [], []

    class Watched(CalibratedAlmaProx):
        def update(self, problem, iterate, gradient, state):
            delta = super().update(problem, iterate, gradient, state)
            gradients.append(gradient)
            seen.append((state.weight, state.radius, delta))
            return delta

    Watched(num_steps=1)(case.network, case.images, case.labels, start=start)
    ((weight, radius, delta),), (gradient,) = seen, gradients
    torch.testing.assert_close(weight, gradient.abs().sum((1, 2, 3)))
    torch.testing.assert_close(radius, norm_of(start, "linf"))
    moved = (delta - start).abs().amax((1, 2, 3))
    assert (moved <= 0.4 * radius).all()
    assert (moved >= 0.1 * radius).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_warm_start_costs_what_both_cost_and_is_never_worse(norm):
    network = ConvNetwork()
    batch = make_batch(network)
    first = LagrangianFMN(num_passes=9, norm=norm)
    attack = WarmStarted(first=first, attack=CalibratedAlmaProx(num_steps=10, norm=norm))
    alone, seen = first(network, batch.images, batch.labels), []
    result = attack(network, batch.images, batch.labels, observer=lambda iterate: seen.append(iterate))
    assert (result.norm <= alone.norm).all()
    assert (result.norm < alone.norm).any()
    assert torch.equal(result.first_success, alone.first_success)
    assert attack.max_passes == (9 + 11, 8 + 10)
    assert result.num_forwards.tolist() == [21] * 4
    assert result.num_backwards.tolist() == [18] * 4
    assert len(seen) == 9 + 11
    torch.testing.assert_close(seen[9].norm, alone.norm)  # the second starts where the first ended


def test_an_image_that_is_broken_as_it_is_does_not_take_part():
    network = ConvNetwork()
    batch = make_batch(network)
    labels = batch.labels.clone()
    labels[1] = torch.where(labels[1] == 255, 255, (labels[1] + 1) % 5)
    labels[2] = 255
    seen = []
    attack = warm_started(9, 5)
    result = attack(network, batch.images, labels, observer=lambda iterate: seen.append(iterate.rows.tolist()))
    assert result.norm[1] == 0
    assert seen[9:] == [[0, 3]] * 6
    assert result.num_backwards.tolist() == [13, 0, 0, 13]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"first": PGD(eps=0.1)}, "needs minimal-norm attacks; PGD is fixed-budget"),
        ({"attack": PGD(eps=0.1)}, "needs minimal-norm attacks; PGD is fixed-budget"),
        ({"first": LagrangianFMN(norm="l2")}, "have the same norm, got 'l2' and 'linf'"),
        ({"attack": AlmaProx(criterion=Targeted())}, "have the same criterion"),
    ],
)
def test_attacks_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        WarmStarted(**fields)
