"""What has no gradient that attacks could follow is refused when it is loaded."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segrobust.networks import Normalized, check_differentiable


class Through(nn.Module):
    """A convolution, and a function of its input or of its logits."""

    def __init__(self, before=lambda images: images, after=lambda logits: logits):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.before, self.after = before, after

    def forward(self, images):
        return self.after(self.convolution(self.before(images)))


def test_a_usual_network_passes_and_is_left_as_it_was():
    network = Normalized(nn.Sequential(Through(), nn.BatchNorm2d(4), nn.Dropout(0.5))).train()
    network.network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert check_differentiable(network, size=(20, 30)) == 4
    assert torch.get_rng_state().equal(state)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert network.training
    assert not network.network[1].training
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())


def test_it_works_where_gradients_are_off():
    network = Through().double()
    with torch.inference_mode():
        assert check_differentiable(network) == 4


def no_grad(logits):
    with torch.no_grad():
        return logits + 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after": no_grad}, "do not depend on the image differentiably.*detach"),
        ({"before": lambda images: images.detach()}, "do not depend on the image differentiably"),
        ({"before": lambda images: images.round()}, "zero everywhere.*rounded"),
        ({"after": lambda logits: (1e6 * logits).softmax(1)}, "zero everywhere.*softmax"),
        ({"after": lambda logits: logits + (logits - logits.detach()).abs().sqrt()}, "not finite.*root"),
        ({"after": lambda logits: logits / 0}, "not finite.*half precision"),
        ({"after": lambda logits: F.avg_pool2d(logits, 2)}, r"\(1, 4, 32, 32\).*FullResolution"),
        ({"after": lambda logits: logits[:, 0]}, "without squeeze"),
    ],
)
def test_what_cannot_be_attacked_is_refused_with_a_reason(change, message):
    with pytest.raises(ValueError, match=message):
        check_differentiable(Through(**change))


@pytest.mark.parametrize(
    ("after", "message"),
    [(lambda logits: {"out": logits}, "FullResolution"), (lambda logits: logits.argmax(1), "without argmax")],
)
def test_what_is_no_tensor_of_logits_is_a_type_error(after, message):
    with pytest.raises(TypeError, match=message):
        check_differentiable(Through(after=after))
