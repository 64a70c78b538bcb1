"""A class whose logit is -inf cannot win: attacks find what they find on the network without that class."""

from dataclasses import replace

import pytest
import torch
from conformance import BATTERY, Batch, Contestant, ConvNetwork, call, make_batch, parts
from torch import Tensor, nn

from segrobust.attacks import PGD, SEA, Attack, InBFloat16, LagrangianFMN, LogitCosine
from segrobust.attacks.core.oracle import NetworkOracle

NETWORK = ConvNetwork()


class Excluding(nn.Module):
    """A network with one more class, first or last, whose logit is always -inf."""

    def __init__(self, network: nn.Module, *, first: bool) -> None:
        super().__init__()
        self.network = network
        self.first = first

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        excluded = torch.full_like(logits[:, :1], -torch.inf)
        return torch.cat((excluded, logits) if self.first else (logits, excluded), 1)


def shifted(batch: Batch) -> Batch:
    """The same batch for a network whose classes are numbered from 1."""
    labels = torch.where(batch.labels == 255, 255, batch.labels + 1)
    return replace(batch, labels=labels, targets=batch.targets + 1)


def depends_on_all_logits(contestant: Contestant) -> bool:
    """Whether a loss divides by the length of all logits, which the stand-in for -inf enters."""
    return bool({LogitCosine, SEA} & {*parts(contestant.attack)}) or "rse" in contestant.name


@pytest.mark.parametrize("contestant", BATTERY, ids=lambda contestant: contestant.name)
def test_a_class_of_minus_infinity_is_as_good_as_none(contestant: Contestant) -> None:
    first = 1 - len(contestant.name) % 2  # either place, over the attacks
    batch = make_batch(NETWORK)
    torch.manual_seed(0)
    expected = call(contestant, NETWORK, batch)
    torch.manual_seed(0)
    found = call(contestant, Excluding(NETWORK, first=bool(first)), shifted(batch) if first else batch)
    assert found.adv.isfinite().all()
    if depends_on_all_logits(contestant):
        return
    tolerance = 1e-2 if InBFloat16 in parts(contestant.attack) else 1e-9
    assert found.success.tolist() == expected.success.tolist()
    assert torch.allclose(found.adv, expected.adv, atol=tolerance, rtol=0)
    assert torch.equal(found.prediction - first, expected.prediction)


@pytest.mark.parametrize("attack", [LagrangianFMN(num_passes=30), PGD(num_steps=4, eps=8 / 255)], ids=["fmn", "pgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_of_an_excluded_class_are_broken(attack: Attack, dtype: torch.dtype) -> None:
    network = Excluding(ConvNetwork(dtype=dtype), first=False)
    batch = make_batch(network.network, dtype=dtype)
    labels = batch.labels.clone()
    labels[:, 0] = 5
    found = attack(network, batch.images, labels)
    assert found.adv.isfinite().all()
    assert (found.prediction < 5).all()
    assert (found.apsr > 0.9).all()


def test_images_that_exclude_other_classes_do_not_meet() -> None:
    """One excludes a class, the other none: each has the result that it has alone."""

    class ExcludingInOne(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self[0](images).clone()
            logits[:, 3] = torch.where(images[:, 0, :1, :1] > 0.5, -torch.inf, logits[:, 3])
            return logits

    batch = make_batch(NETWORK, batch_size=2)
    batch.images[0, 0, 0, 0], batch.images[1, 0, 0, 0] = 0.9, 0.1
    together = LagrangianFMN(num_passes=9)(ExcludingInOne(NETWORK), batch.images, batch.labels)
    for row in (0, 1):
        alone = LagrangianFMN(num_passes=9)(ExcludingInOne(NETWORK), batch.images[[row]], batch.labels[[row]])
        assert torch.equal(alone.adv[0], together.adv[row])


def test_the_stand_in_lies_below_all_that_a_softmax_sees() -> None:
    for scale in (1e-3, 1.0, 1e4):
        logits = scale * torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

        class Constant(nn.Module):
            def forward(self, images: Tensor, logits: Tensor = logits) -> Tensor:
                return torch.cat((logits, torch.full_like(logits[:, :1], -torch.inf)), 1)

        oracle = NetworkOracle(Constant(), torch.zeros(2, 3, 3, 3, dtype=torch.float64))
        shown = oracle.logits(torch.zeros(2, 3, 3, 3, dtype=torch.float64), differentiable=False)
        temperature = 0.2 * (logits.amax() - logits.amin())
        assert torch.equal(shown[:, :4], logits)
        assert (shown.softmax(1)[:, 4] < 1e-13).all()
        assert ((shown / temperature).softmax(1)[:, 4] < 1e-13).all()


def test_plus_infinity_is_an_error() -> None:
    class Infinite(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = NETWORK(images)
            return torch.cat((logits, torch.full_like(logits[:, :1], torch.inf)), 1)

    batch = make_batch(NETWORK)
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        PGD(num_steps=2, eps=0.1)(Infinite(), batch.images, batch.labels)
