"""Perturbations that exist already: one forward pass, and the same judgement as of every attack."""

import math

import pytest
import torch
from conformance import ConvNetwork, make_batch

from segrobust.attacks import AlmaProx, Untargeted
from segrobust.attacks.stored import Stored
from segrobust.functional.modes import attackable


@pytest.fixture(scope="module")
def network():
    return ConvNetwork(dtype=torch.float64)


@pytest.fixture(scope="module")
def batch(network):
    return make_batch(network, dtype=torch.float64)


def test_the_result_of_an_attack_is_found_again(network, batch):
    attack = AlmaProx(num_steps=30, step_size=0.05)
    found = attack(network, batch.images, batch.labels)
    assert found.success.any()
    again = Stored(criterion=attack.criterion)(network, batch.images, batch.labels, start=found.adv - batch.images)
    for name in ("success", "apsr", "prediction"):
        assert torch.equal(getattr(again, name).nan_to_num(-1), getattr(found, name).nan_to_num(-1)), name
    assert torch.allclose(again.norm, found.norm)
    assert again.num_forwards.tolist() == [1] * len(batch.images)
    assert again.num_backwards.tolist() == [0] * len(batch.images)
    assert torch.equal(again.first_success, torch.where(found.success, 0, -1))
    assert again.num_classes == found.num_classes == network(batch.images).shape[1]


@pytest.mark.parametrize(("minimal_norm", "norm"), [(True, math.inf), (False, 0.0)])
def test_without_start_the_images_are_evaluated_as_they_are(network, batch, minimal_norm, norm):
    attack = Stored(source="0123", minimal_norm=minimal_norm, criterion=Untargeted(apsr=0.9))
    with attackable(network):
        labels = network(batch.images).argmax(1)
    result = attack(network, batch.images, labels, eps=None if minimal_norm else 0.1)
    assert torch.equal(result.adv, batch.images)
    assert not result.success.any()
    assert result.apsr.tolist() == [0.0] * len(labels)
    assert set(result.norm.tolist()) == {norm}
    assert set(result.first_success.tolist()) == {-1}


def test_a_perturbation_that_leaves_the_box_is_clipped(network, batch):
    result = Stored()(network, batch.images, batch.labels, start=torch.full_like(batch.images, 2.0))
    assert torch.equal(result.adv, torch.ones_like(batch.images))


def test_the_repr_names_what_is_stored():
    assert "source='0123'" in repr(Stored(source="0123"))
