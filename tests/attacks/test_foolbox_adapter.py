"""An attack behind foolbox's call, called by foolbox's own code."""

import numpy as np
import pytest
import torch
from conformance import ConvNetwork, make_batch
from torch import nn

from segrobust.attacks import PGD, RSFGSM, LagrangianFMN, Targeted
from segrobust.attacks.other_frameworks import FoolboxAttack

foolbox = pytest.importorskip("foolbox", reason="the extra `test` installs foolbox")

EPS = 8 / 255


@pytest.fixture
def network():
    return ConvNetwork(dtype=torch.float32).eval()


@pytest.fixture
def batch(network):
    return make_batch(network, dtype=torch.float32)


def model_of(network, bounds=(0, 1)):
    return foolbox.PyTorchModel(network, bounds=bounds, device=torch.device("cpu"))


def test_the_script_of_foolboxs_readme(network, batch):
    epsilons = np.array([2 / 255, EPS])
    raw, clipped, success = FoolboxAttack(PGD(num_steps=4))(
        model_of(network), batch.images, batch.labels, epsilons=epsilons
    )
    for k, eps in enumerate(epsilons):
        expected = PGD(num_steps=4)(network, batch.images, batch.labels, eps=eps)
        assert torch.equal(raw[k], expected.adv)
        assert torch.equal(clipped[k], expected.adv)
        assert torch.equal(success[k], expected.success)
    assert success.shape == (2, 4)


def test_a_single_epsilon_has_no_list(network, batch):
    raw, clipped, success = FoolboxAttack(PGD(num_steps=4))(model_of(network), batch.images, batch.labels, epsilons=EPS)
    assert raw.shape == clipped.shape == batch.images.shape
    assert success.shape == (4,)


def test_a_minimal_norm_attack_runs_once_and_is_clipped(network, batch):
    attack = LagrangianFMN(num_passes=13)
    expected = attack(network, batch.images, batch.labels)
    epsilons = [None, expected.norm.median().item(), 1e-6]
    raw, clipped, success = FoolboxAttack(attack)(model_of(network), batch.images, batch.labels, epsilons=epsilons)
    assert torch.equal(raw[0], expected.adv)
    assert torch.equal(clipped[0], raw[0])
    assert torch.equal(success[0], expected.success)
    assert (success[1] >= (expected.norm < epsilons[1])).all()
    for k in (1, 2):
        linf = foolbox.distances.linf
        assert (linf(batch.images, clipped[k]) <= epsilons[k] + 1e-7).all()
        torch.testing.assert_close(clipped[k], linf.clip_perturbation(batch.images, raw[k], epsilons[k]))
    assert not success[2].any()


def test_bounds_of_the_model_are_those_of_inputs_and_epsilons(network, batch):
    class Bytes(nn.Module):
        def forward(self, images):
            return network(images / 255)

    ours, _, success = FoolboxAttack(PGD(num_steps=4))(
        model_of(Bytes().eval(), bounds=(0, 255)), batch.images * 255, batch.labels, epsilons=8
    )
    expected = PGD(num_steps=4)(network, batch.images, batch.labels, eps=EPS)
    torch.testing.assert_close(ours / 255, expected.adv, atol=1e-4, rtol=0)
    assert torch.equal(success, expected.success)


@pytest.mark.parametrize("attack", [PGD(num_steps=4, random_start=True), LagrangianFMN(num_passes=13)], ids=repr)
def test_foolboxs_own_code_repeats_it(network, batch, attack):
    """`Repeated` speaks to an attack in tensors of eagerpy, asks for its distance and checks every shape."""
    adapter = FoolboxAttack(attack)
    repeated = foolbox.attacks.base.Repeated(adapter, 2)
    epsilons = [EPS] if not attack.minimal_norm else [None, EPS]
    labels = batch.labels.clamp_max(4)
    ours = adapter(model_of(network), batch.images, labels, epsilons=epsilons)
    theirs = repeated(model_of(network), batch.images, labels, epsilons=epsilons)
    for one, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(mine, its) for mine, its in zip(one, other, strict=True))


def test_repeat_starts_elsewhere():
    once = FoolboxAttack(RSFGSM())
    with pytest.raises(ValueError, match="random"):
        FoolboxAttack(LagrangianFMN()).repeat(2)
    assert once.repeat(1) is once
    pgd = FoolboxAttack(PGD(num_steps=2, random_start=True))
    assert pgd.repeat(3).attack.num_runs == 3


def test_criteria_of_foolbox(network, batch):
    criterion = foolbox.criteria.TargetedMisclassification(batch.targets)
    attack = PGD(num_steps=4, criterion=Targeted())
    raw, _, _ = FoolboxAttack(attack)(model_of(network), batch.images, criterion, epsilons=EPS)
    expected = attack(network, batch.images, batch.targets, targets=batch.targets, eps=EPS)
    assert torch.equal(raw, expected.adv)
    with pytest.raises(ValueError, match="TargetedMisclassification"):
        FoolboxAttack(PGD())(model_of(network), batch.images, criterion, epsilons=EPS)
    with pytest.raises(ValueError, match="needs a radius"):
        FoolboxAttack(PGD())(model_of(network), batch.images, batch.labels, epsilons=[None])
