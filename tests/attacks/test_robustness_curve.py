"""Robustness curves: one radius is annealed PGD, and several never fall with the radius."""

from itertools import pairwise

import pytest
import torch
from conformance import EPS, ConvNetwork, make_batch
from oracles import linear_case

from segrobust.attacks import AnnealedPGD, InBFloat16, Localized, RobustnessCurve, Targeted
from segrobust.functional.norms import norm

RADII = (EPS, EPS / 4, EPS / 2)


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_a_curve_of_one_radius_is_annealed_pgd(name):
    network = ConvNetwork()
    batch = make_batch(network)
    alone = AnnealedPGD(num_passes=9, eps=EPS, norm=name)(network, batch.images, batch.labels)
    curve = RobustnessCurve(num_passes=9, radii=(EPS,), norm=name)
    (at_radius,) = curve.at_radii(network, batch.images, batch.labels)
    free = RobustnessCurve(num_passes=9, norm=name)(network, batch.images, batch.labels, eps=EPS)
    for result in (curve(network, batch.images, batch.labels), at_radius, free):
        assert torch.equal(result.adv, alone.adv)
        assert torch.equal(result.num_forwards, alone.num_forwards)


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_each_radius_has_the_best_of_all_stages_within_it(name):
    """Slow: annealed PGD from twice the perturbation of half the radius; then the largest count so far."""
    network = ConvNetwork()
    batch = make_batch(network)
    curve = RobustnessCurve(num_passes=20, radii=RADII, norm=name)
    results = curve.at_radii(network, batch.images, batch.labels, valid_mask=batch.valid_mask)
    best, start, before = torch.zeros(len(batch.images)), None, None
    for radius, num_passes in zip(sorted(RADII), (6, 7, 7), strict=True):
        if before is not None:
            start = before * 2  # the ratio of the radii
        attack = AnnealedPGD(num_passes=num_passes, eps=radius, norm=name)
        own = attack(network, batch.images, batch.labels, valid_mask=batch.valid_mask, start=start)
        best = best.maximum(own.apsr)
        result = results[RADII.index(radius)]
        before = result.adv - batch.images
        assert torch.equal(result.apsr, best)
        assert (norm(result.adv - batch.images, name) <= radius * (1 + 1e-9)).all()
        assert ((result.adv >= 0) & (result.adv <= 1)).all()
    assert torch.equal(curve(network, batch.images, batch.labels, valid_mask=batch.valid_mask).adv, results[0].adv)


def test_a_weaker_larger_stage_gets_what_a_smaller_one_found():
    """At the larger radius the stage's own iterates are worse than the smaller perturbation, which is within it."""
    case = linear_case(0, batch_size=2)
    radii = tuple(case.minimal_norms("linf").amin().item() * factor for factor in (0.95, 1.0))
    small, large = RobustnessCurve(num_passes=4, radii=radii).at_radii(case.network, case.images, case.labels)
    assert (large.apsr >= small.apsr).all()


@pytest.mark.parametrize("num_passes", [6, 7, 20])
def test_passes_are_those_of_the_field_and_each_radius_is_judged(num_passes):
    network = ConvNetwork()
    batch = make_batch(network)
    curve = RobustnessCurve(num_passes=num_passes, radii=(3e-4, 1e-4, 2e-4))  # no image is broken as a whole
    for result in curve.at_radii(network, batch.images, batch.labels):
        assert (result.num_forwards + result.num_backwards == 2 * num_passes).all()
    assert sum(curve.max_passes) + 3 == 2 * num_passes


def test_an_image_that_is_broken_needs_no_larger_radius():
    network = ConvNetwork()
    batch = make_batch(network)
    once, thrice = (
        RobustnessCurve(num_passes=20 * len(radii), radii=radii).at_radii(network, batch.images, batch.labels)[0]
        for radii in ((0.2,), (0.2, 0.4, 0.8))
    )
    assert (once.apsr == 1).all()
    assert torch.equal(thrice.num_backwards, once.num_backwards)


def test_eps_of_a_call_scales_all_radii():
    network = ConvNetwork()
    batch = make_batch(network)
    curve = RobustnessCurve(num_passes=20, radii=RADII)
    halves = RobustnessCurve(num_passes=20, radii=tuple(radius / 2 for radius in RADII))
    scaled = curve.at_radii(network, batch.images, batch.labels, eps=torch.full((4,), EPS / 2, dtype=torch.float64))
    for one, other in zip(scaled, halves.at_radii(network, batch.images, batch.labels), strict=True):
        assert torch.equal(one.adv, other.adv)


@pytest.mark.parametrize("criterion", [Targeted(apsr=0.5), Localized(keep=0.5), Localized(targeted=True)], ids=repr)
def test_other_criteria_never_lose_with_the_radius(criterion):
    network = ConvNetwork()
    batch = make_batch(network)
    inputs = {"targets": batch.targets} if criterion.sign < 0 else {}
    if criterion.localized:
        inputs["keep_mask"] = torch.arange(9).expand(4, 8, 9) < 4
    curve = RobustnessCurve(num_passes=24, radii=(EPS / 4, EPS / 2, EPS), criterion=criterion)
    results = curve.at_radii(network, batch.images, batch.labels, **inputs)
    for smaller, larger in pairwise(results):
        assert (larger.success >= smaller.success).all()
        if not criterion.localized:  # there the count is that of both parts
            assert (larger.apsr >= smaller.apsr).all()
    assert results[-1].apsr.mean() > results[0].apsr.mean()


def test_a_transfer_attack_and_a_view_of_the_network_give_all_radii():
    network, surrogate = ConvNetwork(dtype=torch.float32), ConvNetwork(dtype=torch.float32)
    batch = make_batch(network, dtype=torch.float32)
    curve = RobustnessCurve(num_passes=12, radii=RADII)
    plain = curve.at_radii(network, batch.images, batch.labels)
    transferred = curve.at_radii(network, batch.images, batch.labels, surrogate=surrogate)
    for one, other in zip(plain, transferred, strict=True):
        assert torch.equal(one.adv, other.adv)
    wrapped = InBFloat16(attack=curve)
    assert wrapped.own_radii == RADII
    assert len(wrapped.at_radii(network, batch.images, batch.labels)) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radii": ()}, "radii must differ, and there must be one"),
        ({"radii": (0.1, 0.1)}, "radii must differ"),
        ({"radii": (4.0,)}, "did you mean 4/255"),
        ({"radii": (0.1, 0.2), "num_passes": 3}, "at least 2 for each of 2 radii"),
        ({"num_passes": 1}, "at least 2 for each of 1 radii"),
        ({"norm": "l1"}, "norm must be one of linf, l2"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RobustnessCurve(**settings)
