"""A run directory knows its network: other functions with the same weights are refused, the same one never is."""

import copy
import re

import pytest
import torch
from test_changed_data import MORE, Scenes, run
from torch import nn
from torch.nn.parallel import DataParallel
from toy import CRITERION, toy_network

from segrobust.attacks import PGD
from segrobust.evaluation import evaluate
from segrobust.evaluation.dataset import load_sample
from segrobust.evaluation.run.network_identity import PROBE_TOLERANCE, NetworkIdentity, spread_difference


class Network(nn.Module):
    def __init__(self, scale=1.0, dtype=torch.float32):
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.LeakyReLU(0.1)
        self.register_buffer("prior", torch.zeros(4, 1, 1), persistent=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        self.to(dtype)

    def forward(self, images):
        return self.act(self.conv(images)) * self.scale + self.prior


class Rounded(Network):
    def forward(self, images):
        return super().forward(images + ((images * 255).round() / 255 - images).detach())


class Doubled(torch.autograd.Function):
    """The identity, with twice its derivative."""

    @staticmethod
    def forward(context, images):
        return images.clone()

    @staticmethod
    def backward(context, gradient):
        return 2 * gradient


class Cached(Network):
    def forward(self, images):
        self.register_buffer("cache", torch.full(images.shape[-2:], float(images.sum())), persistent=False)
        return super().forward(images)


def identity_of(network):
    return NetworkIdentity.of(network, [load_sample(Scenes(2), index) for index in range(2)])


def conflicts(network, before=None):
    return identity_of(before or Network()).find_conflicts(identity_of(network))


def changed(**settings):
    network = Network()
    for name, value in settings.items():
        setattr(network, name, value)
    return network


def hooked():
    network = Network()
    network.conv.register_forward_pre_hook(lambda _, inputs: (inputs[0].clamp(max=0.9),))
    return network


def with_prior():
    network = Network()
    network.prior += 1e-9
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: changed(act=nn.LeakyReLU(0.2)), r"module act: .*LeakyReLU\(negative_slope=0.1\) there, .*0.2\) now"),
        (lambda: changed(act=nn.ReLU()), r"module act: .*ReLU\(\) now"),
        (lambda: changed(scale=1.01), "logits differ on the probe .*largest difference .* standard deviation"),
        (Rounded, r"module \(the network itself\): .*Network\(\) there, .*Rounded\(\) now"),
        (lambda: nn.Sequential(nn.Hardtanh(0, 1), Network()), "Hardtanh"),
        (hooked, "logits differ"),
        (with_prior, "buffers that are no weights: prior differ"),
        (lambda: changed(forward=lambda images: Network()(images + 0.05)), "logits differ"),
        (lambda: changed(forward=lambda images: Network()(images + torch.rand(()))), "was a function and is random"),
        (lambda: changed(forward=lambda images: Network()(images.detach())), "gradients differ .* by 1 of their norm"),
        (lambda: changed(forward=lambda images: Network()(Doubled.apply(images))), "gradients differ .* by 0.5 of"),
    ],
)
def test_another_function_is_named(network, message):
    assert any(re.search(message, line) for line in conflicts(network()))


@pytest.mark.parametrize(
    "network",
    [
        Network,
        lambda: torch.compile(Network(), backend="eager"),
        lambda: changed(act=torch.compile(nn.LeakyReLU(0.1), backend="eager")),
        lambda: DataParallel(Network()),
        lambda: torch.compile(DataParallel(Network()), backend="eager"),
        lambda: Network(dtype=torch.float64),
        lambda: Network().to(memory_format=torch.channels_last),
        lambda: copy.deepcopy(Network()).requires_grad_(False).train(),
    ],
    ids=["same", "compiled", "part compiled", "parallel", "both", "float64", "channels_last", "copy"],
)
def test_the_same_function_is_not_refused(network):
    assert conflicts(network()) == []


class InReducedPrecision(Network):
    def forward(self, images):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(images).float()


def test_other_kernels_are_allowed_in_the_precision_that_a_network_computes_in():
    before = identity_of(InReducedPrecision())
    with torch.backends.mkldnn.flags(enabled=False):
        assert before.find_conflicts(identity_of(InReducedPrecision())) == []
    assert before.find_conflicts(identity_of(InReducedPrecision(scale=1.02))) == []
    assert any("logits differ" in line for line in before.find_conflicts(identity_of(InReducedPrecision(scale=1.3))))


@pytest.mark.parametrize(("before", "now"), [(Network, InReducedPrecision), (InReducedPrecision, Network)])
def test_another_precision_inside_a_network_is_named(before, now):
    assert any("logits differ" in line for line in conflicts(now(), before()))


def test_random_networks_are_compared_by_the_draws_of_a_seed():
    """The same noise is the same function, stronger noise is another."""

    def noisy(strength):
        return changed(forward=lambda images: Network()(images + strength * torch.rand(images.shape)))

    assert conflicts(noisy(0.3), noisy(0.3)) == []
    assert any("logits differ" in line for line in conflicts(noisy(0.3), noisy(0.35)))


def test_buffers_that_a_pass_changes_are_no_settings():
    used = Cached()
    used(torch.rand(1, 3, 7, 7))
    assert conflicts(used, Cached()) == []
    assert conflicts(Cached(), used) == []


def test_random_networks_go_on_and_leave_the_generator_alone():
    noisy = [changed(forward=lambda images: Network()(images + torch.rand(()))) for _ in range(2)]
    samples = [load_sample(Scenes(2), index) for index in range(2)]
    torch.manual_seed(0)
    one, two = (NetworkIdentity.of(network, samples) for network in noisy)
    assert one.find_conflicts(two) == []
    drawn = torch.rand(())
    torch.manual_seed(0)
    assert drawn == torch.rand(())


def test_settings_of_an_updated_package_are_left_to_the_probe():
    before, now = identity_of(Network()), identity_of(changed(act=nn.LeakyReLU(0.2)))
    before.versions["torch"] = "0.1"
    assert all("probe" in line for line in before.find_conflicts(now))
    assert before.find_conflicts(now)


def test_an_identity_survives_its_file(tmp_path):
    before = identity_of(Network())
    before.write(tmp_path / "network.json")
    after = NetworkIdentity.read(tmp_path / "network.json")
    assert before.find_conflicts(after) == after.find_conflicts(before) == []
    assert (after.modules, after.buffers, after.versions) == (before.modules, before.buffers, before.versions)


def test_logits_that_are_not_finite_are_compared_by_place():
    there = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    assert spread_difference(there, there.clone()) == 0
    assert spread_difference(there, torch.tensor([0.0, 1.0, -torch.inf, 2.0])) == torch.inf
    assert spread_difference(there, torch.tensor([0.0, 1.0, 2.0, torch.inf])) == torch.inf
    assert spread_difference(there, there + 1e-4) < PROBE_TOLERANCE < spread_difference(there, there + 1e-2)


def test_a_run_refuses_a_network_of_the_same_weights_that_is_another_function(tmp_path):
    settings = {"attacks": {"pgd": PGD(num_steps=2, criterion=CRITERION)}, "eps": (0.1,), "checks": "off"}
    settings |= {"panels": 0, "progress": False, "run_dir": tmp_path}
    evaluate(Network(), Scenes(3), **settings)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for network in (changed(scale=1.01), Rounded(), changed(act=nn.LeakyReLU(0.2))):
        with pytest.raises(ValueError, match="same weights that is another function:"):
            evaluate(network, Scenes(3), **settings)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    evaluate(torch.compile(Network(), backend="eager"), Scenes(3), **settings)


def test_more_images_are_probed_on_those_of_the_first_command(tmp_path):
    run(tmp_path, Scenes(6), max_images=2)
    first = (tmp_path / "network.json").read_bytes()
    run(tmp_path, Scenes(6), MORE)
    assert (tmp_path / "network.json").read_bytes() == first
    network = toy_network()
    network.forward = lambda images: nn.Conv2d.forward(network, images) * 2
    with pytest.raises(ValueError, match="logits differ"):
        evaluate(network, Scenes(6), attacks=MORE, eps=(16 / 255,), run_dir=tmp_path, progress=False)


def test_a_network_that_raises_on_an_image_of_the_probe_is_left_to_the_evaluation():
    def raising(images):
        if images.sum() > 0:
            raise RuntimeError("no kernel for this image")
        return images

    assert identity_of(changed(forward=raising)).probes == ()
    assert conflicts(changed(forward=raising)) == []
