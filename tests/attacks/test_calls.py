"""Attacks are called alike: with a network, images and labels, and nothing that one attack alone needs."""

from functools import cache

import pytest
import segmentation_models_pytorch as smp
import torch
from conformance import BATTERY, EPS, assert_same, make_batch, needs
from torch import nn

from segrobust.attacks import (
    APGD,
    EOT,
    FGSM,
    KLPGD,
    MIFGSM,
    PGD,
    RSFGSM,
    SEA,
    CosPGD,
    LagrangianFMN,
    PAdam,
    RegionPGD,
    Restarts,
    SegPGD,
    Square,
)

FIXED_BUDGET = (
    FGSM(),
    RSFGSM(),
    MIFGSM(num_steps=2),
    PGD(num_steps=2),
    PGD(num_steps=2, random_start=True),
    SegPGD(num_steps=2),
    RegionPGD(num_steps=2),
    CosPGD(num_steps=2),
    APGD(num_steps=2),
    PAdam(num_steps=2),
    KLPGD(num_steps=2),
    Square(num_queries=6),
    SEA(num_steps=8),
    Restarts(attack=PGD(num_steps=2), num_runs=2),
    EOT(attack=SegPGD(num_steps=2), num_draws=2),
)


@cache
def foreign_network():
    """A network of a library as it comes, in no wrapper of ours."""
    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 8), classes=5)
    return network.double()


@cache
def foreign_batch():
    return make_batch(foreign_network(), batch_size=3, size=(16, 16))


@pytest.mark.parametrize("attack", FIXED_BUDGET, ids=repr)
def test_a_radius_is_all_that_a_call_needs(attack):
    network, batch = foreign_network(), foreign_batch()
    result = attack(network, batch.images, batch.labels, eps=8 / 255)
    assert ((result.norm > 0) & (result.norm <= 8 / 255 + 1e-9)).all()
    assert_same(result, attack(network, batch.images, batch.labels, eps=8 / 255, sample_ids=range(3)))


@pytest.mark.parametrize("contestant", BATTERY, ids=lambda c: c.name)
def test_positions_count_where_no_ids_are_given(contestant):
    """Bit-equal to the call with positions as ids."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1)).double()
    batch, attack = make_batch(network, batch_size=3), contestant.attack
    arguments = needs(contestant, batch) | {"sample_ids": None}
    result = attack(network, batch.images, batch.labels, **arguments)
    assert_same(result, attack(network, batch.images, batch.labels, **arguments | {"sample_ids": range(3)}))


def test_the_position_counts_and_not_what_is_left_of_the_batch():
    """An image that is done leaves the batch; those behind it keep the random numbers of their first position."""
    network, batch = foreign_network(), foreign_batch()
    seen = {}
    labels = batch.labels.clone()
    labels[0] = 255  # nothing to attack: never in the loop

    def remember(iterate):
        seen.setdefault("start", dict(zip(iterate.rows.tolist(), iterate.delta.clone(), strict=True)))

    attack = PGD(num_steps=1, eps=EPS, random_start=True)
    attack(network, batch.images, labels, observer=remember)
    alone = dict(seen)
    seen.clear()
    attack(network, batch.images, batch.labels, observer=remember)
    for row in (1, 2):
        assert torch.equal(alone["start"][row], seen["start"][row])
    assert not torch.equal(seen["start"][1], seen["start"][2])


def test_another_seed_is_another_start():
    network, batch = foreign_network(), foreign_batch()
    one, other = (
        PGD(num_steps=1, random_start=True, seed=seed)(network, batch.images, batch.labels, eps=EPS) for seed in (0, 1)
    )
    assert not torch.equal(one.adv, other.adv)


def test_positions_count_for_training_too():
    network, batch, attack = foreign_network(), foreign_batch(), RSFGSM(eps=EPS)
    images = attack.perturb(network, batch.images, batch.labels)
    assert torch.equal(images, attack.perturb(network, batch.images, batch.labels, sample_ids=range(3)))
    assert not torch.equal(images, attack.perturb(network, batch.images, batch.labels, sample_ids=range(1, 4)))


@pytest.mark.parametrize("attack", [PGD(num_steps=2, eps=EPS), LagrangianFMN(num_passes=5)], ids=repr)
def test_adversarial_images_are_those_of_the_call(attack):
    network, batch = foreign_network(), foreign_batch()
    images = attack.adversarial_images(network, batch.images, batch.labels, valid_mask=batch.valid_mask)
    result = attack(network, batch.images, batch.labels, valid_mask=batch.valid_mask)
    assert torch.equal(images, result.adv)
    assert not images.requires_grad
