"""Outputs of libraries brought to logits at full resolution."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from segrobust.networks import FullResolution, Normalized
from segrobust.networks.adapters import Output

Pair = namedtuple("Pair", ["main", "auxiliary"])
Named = namedtuple("Named", ["aux", "out"])


@dataclass(slots=True)
class Heads:
    auxiliary: Tensor
    main: Tensor


def last_head(result: dict[str, list[Tensor]]) -> Tensor:
    return result["heads"][-1]


class Wrapping(nn.Module):
    """A strided convolution whose logits come back wrapped; it remembers the shape and content of its input."""

    def __init__(self, stride: int = 1, wrap: Callable[[Tensor], object] = lambda logits: logits) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, kernel_size=stride, stride=stride)
        self.wrap = wrap
        self.seen = torch.empty(0)

    def forward(self, images: Tensor) -> object:
        self.seen = images
        return self.wrap(self.convolution(images))


def bilinear_numpy(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Half-pixel bilinear interpolation, pixel by pixel."""
    result = np.empty((*logits.shape[:2], height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * logits.shape[2] / height - 0.5, 0), logits.shape[2] - 1)
            x = min(max((j + 0.5) * logits.shape[3] / width - 0.5, 0), logits.shape[3] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, logits.shape[2] - 1), min(left + 1, logits.shape[3] - 1)
            upper = (1 - x + left) * logits[:, :, top, left] + (x - left) * logits[:, :, top, right]
            lower = (1 - x + left) * logits[:, :, bottom, left] + (x - left) * logits[:, :, bottom, right]
            result[:, :, i, j] = (1 - y + top) * upper + (y - top) * lower
    return result


def test_padding_repeats_the_edge_like_numpy() -> None:
    network = Wrapping(stride=4)
    images = torch.rand(2, 3, 9, 14)
    assert FullResolution(network, stride=4)(images).shape == (2, 4, 9, 14)
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (0, 3), (0, 2)), mode="edge")
    np.testing.assert_array_equal(network.seen.numpy(), expected)


def test_upsampling_and_cropping_match_a_slow_implementation() -> None:
    network = Wrapping(stride=4).double()
    images = torch.rand(2, 3, 9, 14, dtype=torch.float64)
    logits = FullResolution(network, stride=4)(images)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (0, 3), (0, 2)), mode="edge")
    coarse = network(torch.from_numpy(padded)).detach().numpy()
    np.testing.assert_allclose(logits.detach().numpy(), bilinear_numpy(coarse, 12, 16)[:, :, :9, :14], atol=1e-12)


def test_an_image_of_the_right_size_and_resolution_is_left_alone() -> None:
    network = Wrapping()
    images = torch.rand(1, 3, 8, 12)
    assert FullResolution(network, stride=4)(images).equal(network(images))


def test_gradient_flows_through_padding_and_upsampling() -> None:
    network = FullResolution(Wrapping(stride=4).double(), stride=4)
    images = torch.rand(1, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (images,))
    (gradient,) = torch.autograd.grad(network(images).sum(), images)
    assert gradient[..., -1, :].abs().min() > 0


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda logits: logits, None),
        (lambda logits: OrderedDict(aux=-logits, out=logits), None),
        (lambda logits: {"logits": logits, "loss": None}, None),
        (lambda logits: {"main": logits, "out": -logits}, "main"),
        (lambda logits: SimpleNamespace(logits=logits, loss=None), None),
        (lambda logits: SimpleNamespace(scores=logits, logits=-logits), "scores"),
        (lambda logits: (logits,), None),
        (lambda logits: (logits, logits.mean()), None),
        (lambda logits: (logits, logits[:, :1]), None),
        (lambda logits: [-logits, logits], "1"),
        (lambda logits: [-logits, logits], 1),
        (lambda logits: [-logits, -logits, logits], -1),
        (lambda logits: (logits, [-logits]), 0),
        (lambda logits: {"heads": [-logits, logits]}, last_head),
        (lambda logits: {3: -logits, 4: logits}, 4),
        (lambda logits: Pair(-logits, logits), "auxiliary"),
        (lambda logits: Pair(logits, None), None),
        (lambda logits: Named(-logits, logits), None),
        (lambda logits: Heads(-logits, logits), "main"),
        (lambda logits: {"out": logits, "logits": None}, None),
    ],
)
def test_logits_are_unwrapped(wrap: Callable[[Tensor], object], output: Output | None) -> None:
    network = Wrapping(wrap=wrap)
    images = torch.rand(2, 3, 4, 4)
    expected = network.convolution(images)
    assert FullResolution(network, output=output)(images).equal(expected)


@pytest.mark.parametrize(
    ("wrap", "output", "message"),
    [
        (lambda logits: {"main": logits, "aux": logits}, None, r"'main' \(2, 4, 4, 4\), 'aux' .*output='aux'\)"),
        (lambda logits: {"out": logits, "aux": logits}, "main", r"'main' is not in .*'out' .*'aux'"),
        (lambda logits: SimpleNamespace(scores=logits, loss=None), None, "'scores' .*'loss' NoneType.*output='scores'"),
        (lambda logits: SimpleNamespace(scores=logits), "logits", "'logits' is not in .*'scores'"),
        (lambda logits: (logits, logits), "2", "'2' is not in .*'0' .*'1'"),
        (lambda logits: (logits, logits), -3, "-3 is not in .*'0' .*'1'"),
        (lambda logits: (), None, "nothing in it"),
        (lambda logits: logits, "out", "no effect"),
    ],
)
def test_unknown_outputs_are_named_with_those_available(
    wrap: Callable[[Tensor], object], output: Output | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FullResolution(Wrapping(wrap=wrap), output=output)(torch.rand(2, 3, 4, 4))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda logits: [-logits, logits], r"list .*'0' \(2, 4, 40, 60\), '1' \(2, 4, 40, 60\).*output=1\)"),
        (lambda logits: (logits, logits[..., ::4, ::4]), r"tuple .*'1' \(2, 4, 10, 15\)"),
        (lambda logits: (logits.repeat(1, 4, 1, 1), logits), r"'0' \(2, 16, 40, 60\), '1' \(2, 4, 40, 60\)"),
        (lambda logits: [logits[:, :1], logits], r"'0' \(2, 1, 40, 60\)"),
        (lambda logits: (logits.mean(), logits), r"'0' \(\), '1'"),
        (lambda logits: ("a", logits), r"'0' str, '1'"),
        (lambda logits: (logits, [-logits, logits]), r"'1' \[\(2, 4, 40, 60\), .*output=function"),
        (lambda logits: (logits, {"aux": logits}), "need not be the main output"),
        (lambda logits: Pair(logits, -logits), r"'main' .*'auxiliary' .*output='auxiliary'"),
        (lambda logits: Heads(-logits, logits), r"Heads .*'auxiliary' .*'main' .*output='main'"),
        (lambda logits: {"out": logits, "logits": -logits}, "both of the usual names"),
    ],
)
def test_several_possible_logits_are_refused(wrap: Callable[[Tensor], object], message: str, training: bool) -> None:
    with pytest.raises(ValueError, match=message):
        FullResolution(Wrapping(wrap=wrap)).train(training)(torch.rand(2, 3, 40, 60))


def test_one_choice_serves_training_with_auxiliary_heads_and_evaluation_without() -> None:
    class DeeplySupervised(Wrapping):
        def forward(self, images: Tensor) -> object:
            logits = self.convolution(images)
            return [-logits, logits] if self.training else logits

    network = DeeplySupervised()
    full, images = FullResolution(network, output=-1), torch.rand(1, 3, 4, 4)
    assert full.train()(images).equal(network.convolution(images))
    assert full.eval()(images).equal(network.convolution(images))


def test_the_choice_is_part_of_the_repr() -> None:
    shown = {repr(FullResolution(nn.Identity(), output=output)) for output in (None, 0, 1, "0", last_head)}
    assert len(shown) == 5
    assert "test_adapters.last_head" in repr(FullResolution(nn.Identity(), output=last_head))


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda logits: logits.permute(0, 2, 3, 1), r"\(2, 40, 60, 4\).*classes seem to be last"),
        (lambda logits: logits[:, :, ::4, ::4].permute(0, 2, 3, 1), "classes seem to be last"),
        (lambda logits: logits[:, 0], "3 dimensions"),
        (lambda logits: logits.mean((2, 3)), "2 dimensions"),
        (lambda logits: logits[:1], "B = 2"),
        (lambda logits: logits.transpose(2, 3), r"\(h, w\) = \(40, 60\)"),
        (lambda logits: logits[..., :20], "one factor"),
        (lambda logits: logits.repeat(1, 1, 2, 2), "one factor"),
        (lambda logits: logits[:, :0], "K >= 1"),
    ],
)
def test_absurd_shapes_are_explained(wrap: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FullResolution(Wrapping(wrap=wrap))(torch.rand(2, 3, 40, 60))


def test_classes_last_of_a_tiny_image_are_seen() -> None:
    with pytest.raises(ValueError, match="classes seem to be last"):
        FullResolution(Wrapping(wrap=lambda logits: logits[:, :3].permute(0, 2, 3, 1)))(torch.rand(1, 3, 4, 4))


def test_a_pooled_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and 64"):
        FullResolution(Wrapping(wrap=lambda logits: logits.mean((2, 3), keepdim=True)))(torch.rand(1, 3, 40, 80))


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(33, 65), (97, 41), (360, 480)])
def test_rounded_feature_sizes_are_accepted(stride: int, size: tuple[int, int]) -> None:
    ceil = torch.rand(1, 3, -(-size[0] // stride), -(-size[1] // stride))
    floor = torch.rand(1, 3, size[0] // stride, size[1] // stride)
    for logits in (ceil, floor):
        network = Wrapping(wrap=lambda _, logits=logits: logits)
        assert FullResolution(network)(torch.rand(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize(
    "wrap", [lambda logits: logits.argmax(1, keepdim=True), lambda logits: {"out": None}, lambda logits: ("a",)]
)
def test_what_is_no_logits_is_a_type_error(wrap: Callable[[Tensor], object]) -> None:
    with pytest.raises(TypeError, match="of the network"):
        FullResolution(Wrapping(wrap=wrap))(torch.rand(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_logits_are_float32_at_least(dtype: torch.dtype, expected: torch.dtype) -> None:
    network = Wrapping(wrap=lambda logits: logits.to(dtype))
    assert FullResolution(network)(torch.rand(1, 3, 4, 4)).dtype == expected


def test_torchvision_network_of_odd_size() -> None:
    network = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    )
    images = torch.rand(1, 3, 45, 61)
    expected = network.eval()(torch.nn.functional.pad(images, (0, 3, 0, 3), mode="replicate"))["out"][..., :45, :61]
    torch.testing.assert_close(FullResolution(network, stride=16)(images), expected)


def test_wrappers_nest_either_way() -> None:
    network = Wrapping(stride=4, wrap=lambda logits: {"out": logits})
    images = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(
        FullResolution(Normalized(network), stride=4)(images), Normalized(FullResolution(network, stride=4))(images)
    )


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FullResolution(nn.Identity(), stride=0)
    with pytest.raises(TypeError, match=r"8\.0"):
        FullResolution(nn.Identity(), stride=8.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="function"):
        FullResolution(lambda images: images)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key, a position or a function"):
        FullResolution(nn.Identity(), output=True)
    with pytest.raises(ValueError, match="define a function by `def`"):
        FullResolution(nn.Identity(), output=lambda result: result)
    with pytest.raises(ValueError, match="no name"):
        FullResolution(nn.Identity(), output=partial(last_head))
