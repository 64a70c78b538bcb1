"""Images of different sizes in one batch: padding that counts for nothing."""

import pytest
import torch
from conformance import EPS, ConvNetwork
from oracles import linear_case
from torch import Tensor

from segrobust.attacks import (
    APGD,
    DAG,
    DDN,
    FMN,
    PDPGD,
    PGD,
    AlmaProx,
    LagrangianFMN,
    MinimalNormSearch,
    pad_batch,
)

SIZES = [(24, 32), (17, 32), (21, 13)]
ATTACKS = [
    AlmaProx(num_steps=60),
    LagrangianFMN(num_passes=20),
    LagrangianFMN(num_passes=20, norm="l2"),
    FMN(num_steps=20),
    FMN(num_steps=20, norm="l2"),
    FMN(num_steps=20, norm="l1"),
    PDPGD(num_steps=20),
    DDN(num_steps=20),
    DAG(num_steps=20),
    PGD(num_steps=5, eps=EPS),
    APGD(num_steps=5, eps=1.0, norm="l2"),
    MinimalNormSearch(attack=PGD(num_steps=5), num_rounds=4),
]


def cut_images() -> tuple[torch.nn.Module, list[Tensor], list[Tensor]]:
    """A 1x1 convolution in float64, and images of three sizes with the labels that it predicts."""
    case = linear_case(seed=0, batch_size=len(SIZES), dtype=torch.float64)
    images = [image[:, :h, :w] for image, (h, w) in zip(case.images, SIZES, strict=True)]
    labels = [label[:h, :w] for label, (h, w) in zip(case.labels, SIZES, strict=True)]
    return case.network, images, labels


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{type(attack).__name__}-{attack.norm}")
def test_results_are_those_of_the_images_alone(attack):
    network, images, labels = cut_images()
    batch = pad_batch(images, labels)
    padded = attack(network, batch.images, batch.labels, perturbable_mask=batch.inside)
    advs, predictions = batch.cut(padded.adv), batch.cut(padded.prediction)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        alone = attack(network, image[None], label[None])
        torch.testing.assert_close(advs[i], alone.adv[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(padded.norm[i], alone.norm[0], rtol=1e-10, atol=0)
        assert predictions[i].equal(alone.prediction[0])
        for field in ("success", "apsr", "first_success", "num_forwards", "num_backwards"):
            assert getattr(padded, field)[i] == getattr(alone, field)[0], field


def test_the_adversary_stays_out_of_the_padding():
    _, images, labels = cut_images()
    batch = pad_batch(images, labels)
    result = PGD(num_steps=3, eps=EPS)(ConvNetwork(6), batch.images, batch.labels, perturbable_mask=batch.inside)
    changed = result.adv != batch.images
    assert not (changed & ~batch.inside[:, None]).any()
    assert (changed & batch.inside[:, None]).any()


def test_a_network_that_looks_around_sees_the_padding():
    network = torch.nn.Conv2d(3, 6, 3, padding=1).double()
    _, images, labels = cut_images()
    seen = network(pad_batch(images, labels).images)[1, :, : SIZES[1][0]]
    alone = network(images[1][None])[0]
    torch.testing.assert_close(seen[:, :-1], alone[:, :-1])
    assert not torch.isclose(seen[:, -1], alone[:, -1]).all()


def test_layout():
    images = [torch.arange(6.0).view(1, 2, 3) / 6, torch.ones(1, 3, 1)]
    labels = [torch.zeros(2, 3, dtype=torch.int64), torch.ones(3, 1, dtype=torch.int64)]
    batch = pad_batch(images, labels, ignore_index=9)
    assert (6 * batch.images[0, 0]).tolist() == [[0, 1, 2], [3, 4, 5], [3, 4, 5]]
    assert batch.labels.tolist() == [[[0] * 3, [0] * 3, [9] * 3], [[1, 9, 9]] * 3]
    assert batch.inside.equal(batch.labels != 9)
    assert batch.sizes == ((2, 3), (3, 1))
    for got, given in zip(batch.cut(batch.images), images, strict=True):
        assert got.equal(given)
    for got, given in zip(batch.cut(batch.labels), labels, strict=True):
        assert got.equal(given)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([], [], "at least one, got 0 and 0"),
        ([(3, 4, 5)], [], "got 0 and 1"),
        ([(4, 5)], [(4, 5)], r"\(C, h, w\).*\(4, 5\)"),
        ([(3, 4, 5)], [(5, 4)], r"labels \(h, w\).*\(5, 4\)"),
        ([(3, 4, 5), (1, 4, 5)], [(4, 5), (4, 5)], r"C = 3.*\(1, 4, 5\)"),
    ],
)
def test_shapes_are_checked(images, labels, message):
    with pytest.raises(ValueError, match=message):
        pad_batch([torch.zeros(shape) for shape in images], [torch.zeros(shape).long() for shape in labels])


def test_only_tensors_of_the_batch_are_cut():
    batch = pad_batch([torch.zeros(3, 4, 5)], [torch.zeros(4, 5).long()])
    with pytest.raises(ValueError, match=r"\(1, \.\.\., 4, 5\).*\(2, 4, 5\)"):
        batch.cut(torch.zeros(2, 4, 5))
