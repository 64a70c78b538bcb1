import pytest
import torch
from oracles import slow_dlr, slow_margin

from segrobust.functional.pixel_losses import adversarial_loss


@pytest.fixture(scope="module")
def z():
    return torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def reference():
    return torch.randint(5, (2, 6, 7), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sign", [1, -1])
def test_losses_equal_their_definitions(z, reference, sign):
    own = z.gather(1, reference[:, None])[:, 0]
    definitions = {
        "ce": sign * (z.exp().sum(1).log() - own),
        "margin": -sign * slow_margin(z, reference),
        "dlr": -slow_dlr(z, reference, sign, 0.0, True),
    }
    for name, expected in definitions.items():
        torch.testing.assert_close(adversarial_loss(name, z, reference, sign=sign), expected)


@pytest.mark.parametrize("name", ["ce", "margin", "dlr"])
@pytest.mark.parametrize("sign", [1, -1])
def test_climbing_a_loss_leads_away_from_the_truth_or_to_the_target(z, reference, name, sign):
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(adversarial_loss(name, z, reference, sign=sign).sum(), z)
    towards_reference = gradient.gather(1, reference[:, None])
    assert (-sign * towards_reference >= 0).all()
    assert (-sign * towards_reference > 0).float().mean() > 0.5


@pytest.mark.parametrize(
    ("name", "num_classes", "sign"), [("dlr", 2, 1), ("dlr", 3, -1), ("ce", 1, 1), ("margin", 1, 1)]
)
def test_too_few_classes_are_refused(name, num_classes, sign):
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="classes"):
        adversarial_loss(name, torch.zeros(1, num_classes, 2, 2), labels, sign=sign)
