import pytest
import torch
from torch import nn

from segrobust.functional.modes import attackable


class Watcher(nn.Module):
    """Keeps the type and the modes that its forward pass saw."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        out = self.convolution(x)
        self.seen = (out.dtype, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), out.requires_grad)
        return out


def mixed_network():
    """Sub-modules in different modes and parameters with different flags, as in fine-tuning."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 5, 1))
    network.train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    network[1].bias.requires_grad_(False)
    return network


def snapshot(network):
    return (
        [(name, module.training) for name, module in network.named_modules()],
        [(name, parameter.requires_grad) for name, parameter in network.named_parameters()],
    )


def precision_settings():
    mkldnn, cudnn = torch.backends.mkldnn, torch.backends.cudnn
    operators = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv)
    return [operator.fp32_precision for operator in operators]


@pytest.fixture
def reduced_precision():
    """What `set_float32_matmul_precision("medium")`, a common line of training scripts, leaves behind."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def test_inside_everything_is_in_evaluation_and_frozen():
    network = mixed_network()
    with attackable(network):
        modes, flags = snapshot(network)
        assert not any(training for _, training in modes)
        assert not any(flag for _, flag in flags)


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_flags_of_each_part_come_back(fails):
    network = mixed_network()
    before = snapshot(network)
    assert {True, False} == {training for _, training in before[0]} == {flag for _, flag in before[1]}
    if fails:
        with pytest.raises(ZeroDivisionError), attackable(network):
            raise ZeroDivisionError
    else:
        with attackable(network):
            pass
    assert snapshot(network) == before


@pytest.mark.parametrize("fails", [False, True])
def test_precision_settings_come_back(reduced_precision, fails):
    before = precision_settings()
    assert "bf16" in before
    try:
        with attackable(nn.Conv2d(3, 2, 1)):
            assert set(precision_settings()) == {"ieee"}
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert precision_settings() == before
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("surrounding", [torch.no_grad, torch.inference_mode])
def test_gradients_flow_whatever_surrounds(surrounding):
    network = Watcher()
    with surrounding():
        images = torch.rand(1, 3, 4, 4)
        with attackable(network):
            x = images.clone().requires_grad_()
            network(x).sum().backward()
            assert x.grad.abs().sum() > 0
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (surrounding is torch.inference_mode)
    assert network.seen == (torch.float32, True, False, True)
    assert network.convolution.weight.grad is None


def test_autocast_outside_does_not_reach_the_network():
    network = Watcher()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.rand(1, 3, 4, 4))
        assert network.seen[0] == torch.bfloat16
        with attackable(network):
            network(torch.rand(1, 3, 4, 4))
        assert network.seen[0] == torch.float32
        assert torch.is_autocast_enabled("cpu")


def test_contexts_nest():
    network = mixed_network()
    before = snapshot(network)
    with attackable(network):
        with attackable(network):
            pass
        assert not any(flag for _, flag in snapshot(network)[1])
    assert snapshot(network) == before


def compiled_in_place():
    network = mixed_network()
    network.compile(backend="eager")
    return network


@pytest.mark.parametrize("make", [lambda: torch.compile(mixed_network(), backend="eager"), compiled_in_place])
def test_a_compiled_network_keeps_its_parameter_flags(make):
    network = make()
    _, flags = snapshot(network)
    with attackable(network):
        modes, inside = snapshot(network)
        assert inside == flags
        assert not any(training for _, training in modes)
