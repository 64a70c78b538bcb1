"""Polishing: never worse, exact where clipping is, and nothing for those that failed."""

import pytest
import torch
from oracles import linear_case

from segrobust.attacks import FGSM, PGD, AlmaProx, LagrangianFMN, Margin, Polished


def test_a_success_at_a_needlessly_large_radius_is_clipped_to_where_it_ends():
    """Along clip(delta, -t, t) the affine logits of a sign perturbation break at one radius, found to the last bit."""
    case = linear_case(0, batch_size=2, dtype=torch.float64)
    coarse = FGSM(eps=0.15, loss=Margin())
    before = coarse(case.network, case.images, case.labels)
    assert before.success.all()
    polished = Polished(attack=coarse, num_forwards=40, smallest=0.0)
    after = polished(case.network, case.images, case.labels)
    assert after.success.all()
    delta = before.adv - case.images

    def succeeds(radius):
        adv = case.images + delta.clamp(-radius[:, None, None, None], radius[:, None, None, None])
        broken = case.network(adv).argmax(1) != case.labels
        return broken.sum((1, 2)) * 100 >= 99 * broken[0].numel()

    assert succeeds(after.norm * (1 + 1e-9)).all()
    assert not succeeds(after.norm * (1 - 1e-9)).any()
    assert (after.norm >= case.minimal_norms("linf") * (1 - 1e-9)).all()


@pytest.mark.parametrize("attack", [LagrangianFMN(num_passes=12), AlmaProx(num_steps=60)], ids=["fmn", "alma_prox"])
def test_it_is_never_worse_and_costs_what_it_says(attack):
    case = linear_case(2, batch_size=3)
    before = attack(case.network, case.images, case.labels)
    after = Polished(attack=attack, num_forwards=5)(case.network, case.images, case.labels)
    assert (after.norm <= before.norm).all()
    assert torch.equal(after.success, before.success)
    assert torch.equal(after.num_forwards - before.num_forwards, 5 * before.success)
    assert torch.equal(after.num_backwards, before.num_backwards)
    assert torch.equal(after.first_success, before.first_success)


def test_failures_are_left_alone():
    case = linear_case(0, batch_size=2)
    attack = PGD(num_steps=3, eps=1e-4)
    after = Polished(attack=attack)(case.network, case.images, case.labels)
    assert not after.success.any()
    assert after.norm.isinf().all()
    assert torch.equal(after.num_forwards, attack(case.network, case.images, case.labels).num_forwards)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attack": PGD(eps=1.0, norm="l2")}, "attack in 'l2'"),
        ({"attack": PGD()}, "set eps of PGD"),
        ({"attack": AlmaProx(), "num_forwards": 0}, "num_forwards must be at least 1, got 0"),
        ({"attack": AlmaProx(), "smallest": 1.0}, "got 1.0"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Polished(**settings)
