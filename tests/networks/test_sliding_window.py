"""Sliding-window inference against a slow implementation, and its recomputed gradient against the whole graph."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from conformance import ConvNetwork
from torch import Tensor, nn

from segrobust.attacks import EOT, PGD, AlmaProx, MinimalNormSearch
from segrobust.functional.modes import attackable
from segrobust.networks import FullResolution, Normalized, SlidingWindow, load_weights, save_weights

GEOMETRIES = [  # image, window, stride
    ((12, 16), (6, 8), (6, 8)),  # neither overlap nor shift
    ((12, 16), (6, 8), (4, 5)),
    ((13, 17), (6, 8), (4, 5)),  # the last windows are shifted
    ((13, 17), (7, 5), (1, 2)),  # pixels in many windows
    ((13, 17), (6, 6), (6, 6)),  # overlap by the shift alone
    ((5, 17), (6, 8), (4, 5)),  # lower than a window
    ((13, 7), (6, 8), (4, 5)),  # narrower than a window
]


class Strided(nn.Module):
    """Two strided convolutions with a non-linearity, whose logits are upsampled: each pixel sees a neighbourhood."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, stride=stride, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.norm.running_mean.normal_()
        self.passes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        logits = self.second(self.norm(self.first(images)).tanh())
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)


class Noisy(nn.Module):
    """Draws numbers when it predicts, whatever its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Strided()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images * (1 + torch.rand_like(images)))


def slow(network: Callable[[Tensor], Tensor], images: Tensor, window: tuple, stride: tuple) -> Tensor:
    """Every window of every image by itself, padded to the image with zeros and added up; autograd keeps it all."""
    size = images.shape[2:]
    starts = []
    for side, extent, step in zip(size, window, stride, strict=True):
        found, position = [0], 0
        while position + extent < side:
            position += step
            found.append(max(min(position, side - extent), 0))
        starts.append(found)
    results = []
    for image in images:
        total, count = 0, 0
        for top in starts[0]:
            for left in starts[1]:
                crop = image[None, :, top : top + window[0], left : left + window[1]]
                around = (left, size[1] - left - crop.shape[3], top, size[0] - top - crop.shape[2])
                total = total + F.pad(network(crop), around)
                count = count + F.pad(torch.ones_like(crop[:, :1]), around)
        results.append(total / count)
    return torch.cat(results)


def images_of(size: tuple, batch: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, *size, generator=generator, dtype=torch.float64).to(dtype)


def pullback(network: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and their vector-Jacobian product with a fixed random cotangent."""
    leaf = images.clone().requires_grad_()
    logits = network(leaf)
    cotangent = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(logits, leaf, cotangent.to(logits.dtype))
    return logits.detach(), gradient


def relative(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("windows_per_pass", [1, 3])
@pytest.mark.parametrize(("size", "window", "stride"), GEOMETRIES)
def test_logits_and_pullback_equal_those_of_the_whole_graph(size, window, stride, windows_per_pass, dtype, tolerance):
    network = Strided().to(dtype).eval().requires_grad_(False)
    images = images_of(size, dtype=dtype)
    logits, gradient = pullback(SlidingWindow(network, window, stride, windows_per_pass).eval(), images)
    expected_logits, expected = pullback(lambda x: slow(network, x, window, stride), images)
    assert logits.dtype == gradient.dtype == dtype
    assert relative(logits, expected_logits) < tolerance
    assert relative(gradient, expected) < tolerance


def test_gradient_is_that_of_finite_differences():
    network = SlidingWindow(Strided().double(), (4, 3), (3, 2)).eval().requires_grad_(False)
    assert torch.autograd.gradcheck(network, (images_of((6, 5), batch=1).requires_grad_(),))


def test_kept_graphs_give_the_same():
    network = Strided().double().eval().requires_grad_(False)
    results = [
        pullback(SlidingWindow(network, (6, 8), (4, 5), recompute=recompute).eval(), images_of((13, 17)))
        for recompute in (True, False)
    ]
    assert results[0][0].equal(results[1][0])
    assert relative(results[0][1], results[1][1]) < 1e-14


def test_default_stride_is_two_thirds_of_the_window():
    assert SlidingWindow(nn.Identity()).stride == (341, 341)
    assert SlidingWindow(nn.Identity(), (1, 4)).stride == (1, 2)


def test_number_of_passes_and_windows_in_each():
    network = Strided().eval().requires_grad_(False)
    windows = SlidingWindow(network, (6, 8), (4, 5), windows_per_pass=4).eval()
    images = images_of((13, 17), dtype=torch.float32).requires_grad_()
    logits = windows(images)
    assert network.passes == [4, 4, 1, 4, 4, 1]  # 3 x 3 windows of each image
    logits.sum().backward()
    assert network.passes == [4, 4, 1, 4, 4, 1] * 2
    with torch.no_grad():
        windows(images)
    assert len(network.passes) == 18


def test_graph_holds_the_images_alone():
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    images = images_of((13, 17)).requires_grad_()
    network = SlidingWindow(Strided().double().eval().requires_grad_(False), (6, 8)).eval()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(images)
    assert kept == [images.numel()]


@pytest.mark.parametrize("batch", [1, 3])
def test_an_image_of_one_window_goes_straight_through(batch):
    network = Strided().eval().requires_grad_(False)
    images = images_of((6, 8), batch, torch.float32)
    logits, gradient = pullback(SlidingWindow(network, (6, 8)).eval(), images)
    expected, expected_gradient = pullback(network, images)
    assert logits.equal(expected)
    assert gradient.equal(expected_gradient)
    assert network.passes == [batch] * 2


def test_logits_and_gradient_of_an_image_do_not_depend_on_its_batch():
    network = SlidingWindow(Strided().eval().requires_grad_(False), (6, 8), (4, 5), windows_per_pass=4).eval()
    images = images_of((13, 17), 3, torch.float32)
    together = network(images)
    for i in range(3):
        assert network(images[i : i + 1]).equal(together[i : i + 1])


def test_gradient_of_parameters_and_images_is_that_of_the_whole_graph():
    network = Strided().double().eval()
    network.second.bias.requires_grad_(False)
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    images = images_of((13, 17)).requires_grad_()
    found, expected = (
        torch.autograd.grad(logits.square().sum(), [images, *wanted])
        for logits in (SlidingWindow(network, (6, 8), (4, 5)).eval()(images), slow(network, images, (6, 8), (4, 5)))
    )
    for got, right in zip(found, expected, strict=True):
        assert relative(got, right) < 1e-12


def test_parameters_learn_from_images_without_gradient_and_unused_ones_stay():
    network = Strided().double().eval()
    network.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    SlidingWindow(network, (6, 8), (4, 5)).eval()(images_of((13, 17))).square().sum().backward()
    assert network.unused.grad is None
    assert all(parameter.grad.abs().max() > 0 for name, parameter in network.named_parameters() if name != "unused")


def test_in_training_mode_graphs_are_kept_and_statistics_advance_once_per_window():
    network = Strided().double().train()
    network.norm.momentum = None  # cumulative average
    images = images_of((12, 16), batch=1).requires_grad_()
    logits = SlidingWindow(network, (6, 8), (6, 8)).train()(images)
    expected = Strided().double().train()
    expected.norm.momentum = None
    right = slow(expected, images, (6, 8), (6, 8))
    assert relative(*(torch.autograd.grad(x.square().sum(), images)[0] for x in (logits, right))) < 1e-12
    assert network.norm.num_batches_tracked == 4
    torch.testing.assert_close(network.norm.running_var, expected.norm.running_var)


def test_one_part_in_training_mode_keeps_the_graphs():
    network = Strided()
    windows = SlidingWindow(network, (6, 8)).eval()
    network.norm.train()
    windows(images_of((13, 17), 1, torch.float32)).sum().backward()
    assert len(network.passes) == 3 * 3


def test_a_random_network_is_differentiated_at_the_numbers_that_it_drew():
    network = Noisy().double().eval().requires_grad_(False)
    images = images_of((13, 17))
    torch.manual_seed(5)
    found = pullback(SlidingWindow(network, (6, 8), (4, 5)).eval(), images)
    torch.manual_seed(5)
    expected = pullback(lambda x: slow(network, x, (6, 8), (4, 5)), images)
    for got, right in zip(found, expected, strict=True):
        assert relative(got, right) < 1e-12


def test_the_second_run_draws_nothing_from_the_generator_of_its_caller():
    images = images_of((13, 17)).requires_grad_()
    logits = SlidingWindow(Noisy().double(), (6, 8)).eval()(images)
    torch.rand(3)
    state = torch.get_rng_state()
    logits.sum().backward()
    assert torch.get_rng_state().equal(state)


def test_several_draws_may_wait_for_their_gradients():
    network = Noisy().double().eval().requires_grad_(False)
    windows = SlidingWindow(network, (6, 8), (4, 5)).eval()
    leaf = images_of((13, 17)).requires_grad_()
    torch.manual_seed(5)
    draws = [windows(leaf).square().sum() for _ in range(2)]
    gradients = [torch.autograd.grad(draw, leaf)[0] for draw in reversed(draws)]
    torch.manual_seed(5)
    expected = [torch.autograd.grad(slow(network, leaf, (6, 8), (4, 5)).square().sum(), leaf)[0] for _ in range(2)]
    assert relative(gradients[0], expected[1]) < 1e-12
    assert relative(gradients[1], expected[0]) < 1e-12


def test_autocast_of_the_forward_pass_holds_in_the_second_run():
    network = Strided().eval()
    seen: list[torch.dtype] = []
    network.second.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    images = images_of((13, 17), 1, torch.float32).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        logits = SlidingWindow(network, (6, 8), (4, 5)).eval()(images)
        expected = slow(network, images, (6, 8), (4, 5))
    assert logits.dtype == torch.float32
    wanted = [images, *network.parameters()]
    seen.clear()
    found = torch.autograd.grad(logits.square().sum(), wanted)
    assert set(seen) == {torch.bfloat16}
    for got, right in zip(found, torch.autograd.grad(expected.square().sum(), wanted), strict=True):
        assert relative(got, right) < 0.02


def test_autocast_around_the_backward_pass_has_no_influence():
    windows = SlidingWindow(Strided().eval().requires_grad_(False), (6, 8), (4, 5)).eval()
    leaf = images_of((13, 17), 1, torch.float32).requires_grad_()
    (expected,) = torch.autograd.grad(windows(leaf).sum(), leaf)
    logits = windows(leaf)
    with torch.autocast("cpu", torch.bfloat16):
        (gradient,) = torch.autograd.grad(logits.sum(), leaf)
    assert gradient.equal(expected)


def test_without_gradients_nothing_is_recorded():
    windows = SlidingWindow(Strided(), (6, 8)).eval()
    images = images_of((13, 17), 1, torch.float32)
    with torch.inference_mode():
        inferred = windows(images)
    with torch.no_grad():
        assert windows(images.requires_grad_()).equal(inferred)
    assert not inferred.requires_grad


def test_images_changed_between_the_passes_are_noticed():
    images = images_of((13, 17)).requires_grad_()
    changed = images * 1
    logits = SlidingWindow(Strided().double(), (6, 8)).eval()(changed)
    changed.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logits.sum().backward()


def test_second_derivatives_are_refused():
    images = images_of((13, 17)).requires_grad_()
    logits = SlidingWindow(Strided().double(), (6, 8)).eval()(images)
    (gradient,) = torch.autograd.grad(logits.square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_an_output_without_gradient_is_an_error():
    class Classes(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images > 0.5).float()

    logits = SlidingWindow(Classes(), (6, 8)).eval()(images_of((13, 17)).requires_grad_())
    with pytest.raises(ValueError, match="do not depend on the image differentiably"):
        logits.sum().backward()


class Slow(nn.Module):
    """The slow implementation as a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return slow(self.network, images, (6, 8), (4, 5))


@pytest.mark.parametrize(
    "attack",
    [AlmaProx(num_steps=15), PGD(num_steps=5, eps=8 / 255), MinimalNormSearch(attack=PGD(num_steps=3), num_rounds=3)],
    ids=lambda attack: type(attack).__name__,
)
def test_attacks_find_what_they_find_with_the_whole_graph(attack):
    network = ConvNetwork()
    images = 0.5 + 0.02 * torch.randn(2, 3, 13, 17, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with attackable(network), torch.no_grad():
        labels = slow(network, images, (6, 8), (4, 5)).argmax(1)
    found = attack(SlidingWindow(network, (6, 8), (4, 5)), images, labels)
    expected = attack(Slow(network), images, labels)
    assert found.success.equal(expected.success)
    assert found.num_forwards.equal(expected.num_forwards)
    assert found.num_backwards.equal(expected.num_backwards)
    torch.testing.assert_close(found.adv, expected.adv, rtol=0, atol=1e-9)
    assert network.training  # left as it was found
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_attack_on_averaged_draws():
    network = Noisy().double()
    images = images_of((13, 17))
    labels = network.inner.eval()(images).argmax(1)
    attack = EOT(attack=PGD(num_steps=3, eps=8 / 255), num_draws=2)
    results = []
    for subject in (SlidingWindow(network, (6, 8), (4, 5)), Slow(network)):
        torch.manual_seed(7)
        results.append(attack(subject, images, labels))
    torch.testing.assert_close(results[0].adv, results[1].adv, rtol=0, atol=1e-9)
    assert results[0].num_backwards.tolist() == [6, 6]


def test_wrappers_nest_either_way():
    class Coarse(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(3, 4, 4, stride=4)

    network = Coarse().eval().requires_grad_(False)
    images = images_of((19, 23), dtype=torch.float32)
    inside = SlidingWindow(Normalized(FullResolution(network, stride=4)), (8, 10), (5, 6)).eval()
    outside = Normalized(SlidingWindow(FullResolution(network, stride=4), (8, 10), (5, 6))).eval()
    for got, right in zip(pullback(inside, images), pullback(outside, images), strict=True):
        torch.testing.assert_close(got, right)


def test_weights_move_in_and_out_of_windows(tmp_path):
    bare = Strided()
    save_weights(bare, tmp_path / "weights.safetensors")
    wrapped = SlidingWindow(Strided(), (6, 8))
    nn.init.zeros_(wrapped.network.first.weight)
    load_weights(wrapped, tmp_path / "weights.safetensors")
    assert wrapped.network.first.weight.equal(bare.first.weight)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"window": 512}, TypeError, r"window must be \(height, width\).*512"),
        ({"window": (512,)}, ValueError, r"window must be \(height, width\)"),
        ({"window": (512.0, 512)}, TypeError, r"window.*512\.0"),
        ({"window": (0, 512)}, ValueError, "window must be at least 1, got 0"),
        ({"window": (8, 8), "stride": (8, 9)}, ValueError, r"stride=\(8, 9\) leaves gaps"),
        ({"stride": (0, 1)}, ValueError, "stride must be at least 1"),
        ({"windows_per_pass": 0}, ValueError, "windows_per_pass must be at least 1"),
        ({"windows_per_pass": True}, TypeError, "windows_per_pass.*True"),
    ],
)
def test_settings_are_checked(settings, error, message):
    with pytest.raises(error, match=message):
        SlidingWindow(nn.Identity(), **settings)


def test_a_network_is_required():
    with pytest.raises(TypeError, match="function"):
        SlidingWindow(lambda images: images)


@pytest.mark.parametrize(
    ("inner", "error", "message"),
    [
        (nn.Conv2d(3, 4, 3), ValueError, r"images of the shape \(1, 3, 6, 8\), got \(1, 4, 4, 6\).*FullResolution"),
        (nn.Flatten(), ValueError, r"\(1, 144\).*without squeeze, flatten"),
    ],
)
@pytest.mark.parametrize("size", [(6, 8), (13, 17)])
def test_logits_of_another_size_are_explained(inner, error, message, size):
    with pytest.raises(error, match=message):
        SlidingWindow(inner, (6, 8))(images_of(size, 1, torch.float32))


def test_outputs_that_are_no_tensor_are_explained():
    class Wrapped(nn.Module):
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"out": images}

    with pytest.raises(TypeError, match=r"dict.*FullResolution"):
        SlidingWindow(Wrapped(), (6, 8))(images_of((13, 17)))


def test_images_must_be_a_batch():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got \(3, 13, 17\)"):
        SlidingWindow(nn.Identity(), (6, 8))(torch.rand(3, 13, 17))
