"""Programs: accepted where they give gradients, refused with a reason where they cannot."""

import zipfile

import pytest
import torch
from networks.saved import assert_has_gradient, enliven
from torch import nn
from torch.export import Dim

from segrobust.networks import program_network

MEAN, STD = [0.1, 0.2, 0.3], [0.5, 0.4, 0.3]


def small_network():
    return enliven(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1)))


class WithoutGraph(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = small_network()

    def forward(self, images):
        with torch.no_grad():
            return self.network(images)


def export(network, path, batch=1, **settings):
    torch.export.save(torch.export.export(network, (torch.rand(batch, 3, 32, 32),), **settings), path)


def load(path, **settings):
    return program_network(str(path), 5, MEAN, STD, trusted=True, **settings)


def write_script(path):
    torch.jit.script(small_network()).save(path)


def write_program(path):
    export(small_network(), path, batch=2, dynamic_shapes={"input": {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}})


@pytest.mark.parametrize("write", [write_script, write_program])
def test_logits_are_those_of_the_module(tmp_path, write):
    path = tmp_path / "program.pt2"
    write(path)
    ours = load(path).eval()
    images = torch.rand(3, 3, 40, 56)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(ours(images), small_network()((images - mean) / std), rtol=0, atol=1e-5)
    assert_has_gradient(ours, images)
    ours.train().eval()  # an exported program has no modes and would raise
    assert ours.record.pretrained


def test_a_program_is_not_read_unless_it_is_trusted(tmp_path):
    write_script(tmp_path / "program.pt")
    with pytest.raises(ValueError, match=r"TorchScript.*trusted=True"):
        program_network(str(tmp_path / "program.pt"), 5, MEAN, STD)


def test_a_program_without_gradient_is_refused(tmp_path):
    export(WithoutGraph(), tmp_path / "program.pt2")
    with pytest.raises(ValueError, match=r"program\.pt2: the logits do not depend.*module that was trained"):
        load(tmp_path / "program.pt2", check_size=(32, 32))


def test_a_frozen_script_is_refused(tmp_path):
    torch.jit.freeze(torch.jit.script(small_network())).save(tmp_path / "program.pt")
    with pytest.raises(ValueError, match=r"frozen.*before torch\.jit\.freeze"):
        load(tmp_path / "program.pt")


def test_a_compiled_program_is_refused_before_it_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "program.pt2", "w") as archive:
        archive.writestr("program/archive_format", "pt2")
        archive.writestr("program/data/aotinductor/model/wrapper.so", b"")
    with pytest.raises(ValueError, match=r"compiled ahead of time.*no gradients.*torch\.export\.save"):
        load(tmp_path / "program.pt2")


def test_another_size_than_the_exported_one_is_explained(tmp_path):
    export(small_network(), tmp_path / "program.pt2")
    network = load(tmp_path / "program.pt2", check_size=(32, 32))
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 32\).*dynamic_shapes"):
        network(torch.rand(2, 3, 32, 32))


def test_what_is_no_program_says_so(tmp_path):
    (tmp_path / "page.pt").write_text("<html>")
    torch.save({"weight": torch.rand(2)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="no program that"):
        load(tmp_path / "page.pt")
    with pytest.raises(ValueError, match="load_weights"):
        load(tmp_path / "weights.pt")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.pt")
