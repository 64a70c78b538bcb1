"""Normalisation inside the network."""

import math

import pytest
import torch
from torch import nn

from segrobust.networks import Normalized


def test_output_is_that_of_the_normalised_image() -> None:
    images = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    network = Normalized(nn.Identity(), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0)).double()
    output = network(images)
    for channel, (mean, std) in enumerate([(0.5, 0.5), (0.25, 0.25), (0.0, 1.0)]):
        torch.testing.assert_close(output[:, channel], (images[:, channel] - mean) / std, rtol=0, atol=0)


def test_default_constants_are_those_of_torchvision() -> None:
    from torchvision.transforms._presets import SemanticSegmentation

    preset = SemanticSegmentation(resize_size=None)
    network = Normalized(nn.Identity())
    assert network.mean.flatten().tolist() == pytest.approx(preset.mean)
    assert network.std.flatten().tolist() == pytest.approx(preset.std)


def test_constants_follow_the_dtype_but_are_no_weights() -> None:
    network = Normalized(nn.Conv2d(3, 2, 1)).double()
    assert network.mean.dtype == network.std.dtype == torch.float64
    assert set(network.state_dict()) == {"network.weight", "network.bias"}


def test_gradient_is_divided_by_std() -> None:
    images = torch.rand(1, 2, 3, 3, requires_grad=True)
    Normalized(nn.Identity(), mean=(0.1, 0.2), std=(0.5, 0.25))(images).sum().backward()
    assert images.grad is not None
    assert images.grad[0, 0].eq(2.0).all()
    assert images.grad[0, 1].eq(4.0).all()


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (0.5, 0.5), "1 and 2 values"),
        ((), (), "0 and 0 values"),
        ((0.5, 0.5), (0.5, 0.0), r"std must be positive.*0\.0"),
        ((0.5, 0.5), (0.5, -0.1), "std must be positive"),
        ((0.5, math.nan), (0.5, 0.5), "finite"),
        ((0.5, 0.5), (0.5, math.inf), "finite"),
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), r"123\.675.*255"),
    ],
)
def test_foreign_constants_are_refused(mean: tuple[float, ...], std: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalized(nn.Identity(), mean=mean, std=std)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 4, 4), (3, 4, 4)])
def test_images_with_other_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        Normalized(nn.Identity())(torch.rand(shape))


def test_a_function_is_no_network() -> None:
    with pytest.raises(TypeError, match="function"):
        Normalized(lambda images: images)  # type: ignore[arg-type]
