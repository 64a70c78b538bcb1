"""An attack behind AutoAttack's call."""

import pytest
import torch
from conformance import ConvNetwork, make_batch

from segrobust.attacks import RSFGSM, SEA, Clipped, LagrangianFMN
from segrobust.attacks.other_frameworks import StandardEvaluation

EPS = 8 / 255


@pytest.fixture
def network():
    return ConvNetwork(dtype=torch.float32).eval()


@pytest.fixture
def batch(network):
    return make_batch(network, dtype=torch.float32)


def test_the_script_of_autoattacks_readme(network, batch):
    """Its example calls under `no_grad`."""
    adversary = StandardEvaluation(network, norm="Linf", eps=EPS, attack=SEA(num_steps=8))
    with torch.no_grad():
        x_adv = adversary.run_standard_evaluation(batch.images, batch.labels, bs=4)
    expected = SEA(num_steps=8)(network, batch.images, batch.labels, eps=EPS)
    assert torch.equal(x_adv, expected.adv)
    x_adv, y_adv = adversary.run_standard_evaluation(batch.images, batch.labels, bs=4, return_labels=True)
    assert torch.equal(y_adv, expected.prediction)
    assert torch.equal(y_adv, network(x_adv).argmax(1))


def test_members_run_alone_and_accuracies_are_of_pixels(network, batch, capsys):
    adversary = StandardEvaluation(network, eps=EPS, attack=SEA(num_steps=8), seed=3)
    assert adversary.attack == SEA(num_steps=8, seed=3)
    alone = adversary.run_standard_evaluation_individual(batch.images, batch.labels, bs=4)
    assert set(alone) == set(adversary.attack.members)
    member = adversary.attack.members["js"](network, batch.images, batch.labels, eps=EPS)
    assert torch.equal(alone["js"], member.adv)
    single = StandardEvaluation(network, eps=EPS, attack=RSFGSM(), verbose=False)
    ((name, (_, predicted)),) = single.run_standard_evaluation_individual(
        batch.images, batch.labels, return_labels=True
    ).items()
    assert name == "rsfgsm"
    assert predicted.shape == batch.labels.shape
    assert capsys.readouterr().out == ""

    valid = batch.labels != 255
    right = (network(batch.images).argmax(1) == batch.labels)[valid]
    assert single.clean_accuracy(batch.images, batch.labels, bs=1) == right.double().mean()
    _, predicted = adversary.run_standard_evaluation(batch.images, batch.labels, return_labels=True)
    robust = (predicted == batch.labels)[valid].double().mean()
    assert (
        capsys.readouterr().out == f"clean accuracy {right.double().mean():.2%}, accuracy under attack {robust:.2%}\n"
    )


def test_the_standard_is_sea(network):
    assert StandardEvaluation(network).attack == SEA()


def test_batches_do_not_matter_to_a_standard_evaluation():
    network = ConvNetwork()
    batch = make_batch(network)
    adversary = StandardEvaluation(network, eps=EPS, attack=RSFGSM())
    one, all_of_them = (adversary.run_standard_evaluation(batch.images, batch.labels, bs=bs) for bs in (1, 9))
    assert torch.equal(one, all_of_them)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "L2"}, "linf.*'L2'"),
        ({"norm": "linf"}, "Linf, L2, L1; got 'linf'"),
        ({"attack": LagrangianFMN()}, "Clipped"),
        ({"version": "rand"}, "'standard', got 'rand'"),
    ],
)
def test_a_standard_evaluation_without_meaning_is_refused(network, settings, message):
    with pytest.raises(ValueError, match=message):
        StandardEvaluation(network, **settings)
    StandardEvaluation(network, attack=Clipped(attack=LagrangianFMN()))
