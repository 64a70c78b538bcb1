import pytest
import torch
from torch import nn

from segrobust.networks import ClassOrder, ColorOrder


def test_colours_and_classes_are_those_of_an_index():
    images = torch.rand(2, 3, 4, 5)
    network = nn.Conv2d(3, 4, 1)
    assert torch.equal(ColorOrder(network)(images), network(images.flip(1)))
    assert torch.equal(ColorOrder(network, (1, 2, 0))(images), network(images[:, [1, 2, 0]]))
    assert torch.equal(ClassOrder(network, range(1, 4))(images), network(images)[:, 1:])
    assert "order=(2, 1, 0)" in repr(ColorOrder(network))
    assert "channels=(3, 0)" in repr(ClassOrder(network, (3, 0)))


def test_what_is_no_order_is_named():
    network, images = nn.Conv2d(3, 4, 1), torch.rand(1, 3, 2, 2)
    for order in ((0, 1, 1), (1, 2, 3), ()):
        with pytest.raises(ValueError, match=r"permutation of the channels 0..C-1"):
            ColorOrder(network, order)
    for channels in ((1,), (0, 0), (-1, 2)):
        with pytest.raises(ValueError, match="at least two and none twice"):
            ClassOrder(network, channels)
    with pytest.raises(ValueError, match="need at least 6 channels of logits, the network has 4"):
        ClassOrder(network, (0, 5))(images)
    with pytest.raises(ValueError, match=r"expected \(B, 2, H, W\)"):
        ColorOrder(network, (1, 0))(images)
    with pytest.raises(TypeError, match="FullResolution"):
        ClassOrder(nn.Sequential(), (0, 1))("no tensor")
