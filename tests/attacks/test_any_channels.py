"""Every attack on images of other than three channels."""

import pytest
import torch
from conformance import BATTERY, EPS, PixelNetwork, call, make_batch
from tolerances import BALL
from torch import nn

from segrobust.attacks import PGD

CHANNELS = (1, 2, 4, 6, 13)
ONE_OF_EACH = tuple({(type(each.attack), each.attack.norm): each for each in reversed(BATTERY)}.values())


def norm_of(delta, name):
    flat = delta.flatten(1)
    return flat.abs().amax(1) if name == "linf" else flat.norm(p=int(name[1:]), dim=1)


@pytest.mark.parametrize("contestant", ONE_OF_EACH, ids=lambda each: each.name)
@pytest.mark.parametrize("channels", CHANNELS)
def test_attacks_find_perturbations_in_any_number_of_channels(contestant, channels):
    network = PixelNetwork(channels=channels).eval()
    batch = make_batch(network, batch_size=2, size=(5, 6), channels=channels)
    result = call(contestant, network, batch)
    delta = result.adv - batch.images
    assert result.adv.shape == (2, channels, 5, 6)
    assert 0 <= result.adv.min() <= result.adv.max() <= 1
    broken = result.success
    torch.testing.assert_close(result.norm[broken], norm_of(delta[broken], contestant.attack.norm), atol=BALL, rtol=0)
    assert delta.abs().amax((0, 2, 3)).gt(0).sum() >= min(channels, 2) or not broken.any()
    eps = getattr(contestant.attack, "eps", None)
    if eps is not None and not contestant.attack.minimal_norm:
        assert norm_of(delta, contestant.attack.norm).max() <= eps + BALL


@pytest.mark.parametrize("channels", [1, 4])
def test_the_channels_of_network_and_images_must_agree(channels):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(
        ValueError, match=f"the images have {channels} channels, the network's first convolution takes 3"
    ):
        PGD(num_steps=1, eps=EPS)(network, torch.rand(1, channels, 6, 6), torch.zeros(1, 6, 6).long())


def test_a_mismatch_inside_the_network_is_its_own():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(5, 2, 1))
    with pytest.raises(RuntimeError, match="expected input"):
        PGD(num_steps=1, eps=EPS)(network, torch.rand(1, 3, 6, 6), torch.zeros(1, 6, 6).long())
