"""Annealed PGD: the number of pixels that a radius can break, and the balls that its iterates stay in."""

import pytest
import torch
from conformance import EPS, ConvNetwork, make_batch
from oracles import Scaled, linear_case

from segrobust.attacks import AnnealedPGD, Targeted, Untargeted
from segrobust.functional.norms import norm

RADII = {"linf": (1 / 255, 4 / 255), "l2": (0.1, 0.2)}


def most_broken(case, name, eps):
    """Largest number of pixels that a perturbation of norm `eps` can break, each pixel by itself: `(B,)`."""
    distances = case.distances(name).flatten(1).sort(1).values
    spent = distances if name == "linf" else distances.square().cumsum(1).sqrt()
    return (spent < eps).sum(1)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "share"), [("linf", 0.97), ("l2", 0.8)])
def test_nearly_all_pixels_that_can_break_do(name, share, seed):
    case = linear_case(seed, batch_size=2, dtype=torch.float64)
    for eps in RADII[name]:
        best = most_broken(case, name, eps) / case.labels[0].numel()
        assert ((best > 0.1) & (best < 0.98)).all()
        found = AnnealedPGD(num_passes=50, eps=eps, norm=name)(case.network, case.images, case.labels).apsr
        assert (found <= best.float() + 1e-6).all()
        assert (found >= share * best).all()


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_towards_the_other_of_two_classes_is_away_from_the_own(name):
    case = linear_case(2, batch_size=2, num_classes=2, dtype=torch.float64)
    away, towards = (AnnealedPGD(num_passes=30, eps=EPS, norm=name, criterion=c()) for c in (Untargeted, Targeted))
    expected = away(case.network, case.images, case.labels)
    found = towards(case.network, case.images, case.labels, targets=1 - case.labels)
    torch.testing.assert_close(found.apsr, expected.apsr)
    torch.testing.assert_close(found.adv, expected.adv)


@pytest.mark.parametrize("num_passes", [2, 3, 25])
def test_passes_are_those_of_the_field(num_passes):
    network = ConvNetwork()
    batch = make_batch(network)
    attack = AnnealedPGD(num_passes=num_passes, eps=1 / 255)  # no image is broken as a whole, so none leaves
    result = attack(network, batch.images, batch.labels)
    assert (result.num_forwards + result.num_backwards == 2 * num_passes).all()
    assert sum(attack.max_passes) + 1 == 2 * num_passes


@pytest.mark.parametrize("name", ["linf", "l2"])
@pytest.mark.parametrize("factor", [0.125, 8.0])
def test_a_power_of_two_times_the_logits_changes_no_bit(factor, name):
    case = linear_case(0, batch_size=2)
    attack = AnnealedPGD(num_passes=20, eps=EPS, norm=name)
    plain, scaled = (
        attack(network, case.images, case.labels) for network in (case.network, Scaled(case.network, factor))
    )
    assert torch.equal(scaled.adv, plain.adv)


@pytest.mark.parametrize("name", ["linf", "l2"])
@pytest.mark.parametrize("random_start", [False, True])
def test_the_ball_falls_from_twice_the_radius_and_iterates_outside_do_not_count(name, random_start):
    network = ConvNetwork()
    batch = make_batch(network, batch_size=2)
    eps, seen = torch.tensor([0.5, 1.0], dtype=torch.float64) / 255, []
    attack = AnnealedPGD(num_passes=21, norm=name, random_start=random_start)
    start = None if random_start else torch.full_like(batch.images, 0.1)
    result = attack(network, batch.images, batch.labels, eps=eps, start=start, observer=seen.append)
    assert len(seen) == 21
    for iterate in seen:
        ball = eps * max(2 - iterate.step / 12, 1.0)  # 60 % of 20 steps
        assert (iterate.norm <= ball * (1 + 1e-12)).all()
        assert torch.equal(iterate.num_broken >= 0, (iterate.norm <= eps) | (iterate.step >= 12))
    assert (seen[3].norm > 1.2 * eps).all()
    inside = [iterate.num_broken for iterate in seen if iterate.step >= 12]
    assert torch.equal((result.apsr * batch.valid_mask.sum((1, 2))).round().long(), torch.stack(inside).amax(0))


def test_a_success_outside_the_ball_is_none():
    """What breaks the image at twice the radius neither ends the attack nor is returned."""
    case = linear_case(0, batch_size=2, dtype=torch.float64)
    eps, seen = 0.8 * case.minimal_norms("linf"), []
    attack = AnnealedPGD(num_passes=20)
    result = attack(case.network, case.images, case.labels, eps=eps, observer=seen.append)
    assert any((iterate.broken.sum((1, 2)) == case.labels[0].numel()).all() for iterate in seen)
    assert not any(iterate.success.any() for iterate in seen)
    assert (result.first_success == -1).all()
    assert (norm(result.adv - case.images, "linf") <= eps + 1e-12).all()


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_training_gets_the_last_iterate_inside_the_ball(name):
    network = ConvNetwork()
    batch = make_batch(network)
    attack = AnnealedPGD(num_passes=4, eps=EPS, norm=name)
    seen = []
    attack(network, batch.images, batch.labels, observer=seen.append)
    perturbed = attack.perturb(network, batch.images, batch.labels)
    assert (norm(perturbed - batch.images, name) <= EPS * (1 + 1e-12)).all()
    last = seen[-1]
    assert last.step == 3
    assert torch.equal(perturbed[last.rows], batch.images[last.rows] + last.delta)


def test_seeds_of_random_starts_differ():
    network = ConvNetwork()
    batch = make_batch(network)
    attack = AnnealedPGD(num_passes=4, eps=EPS)
    found = [attack.with_start_seed(seed)(network, batch.images, batch.labels).adv for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_one_pass_is_too_few():
    with pytest.raises(ValueError, match="num_passes must be at least 2"):
        AnnealedPGD(num_passes=1)
