"""The table of checkpoints: names, hashes, and networks by name."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from networks.published.cases import CASES

import segrobust.networks.published.catalogue as table
from segrobust.networks import load_published
from segrobust.networks.published import CHECKPOINTS, checkpoint_table

ROOT = Path(__file__).parent.parent.parent.parent


def test_names_and_files_occur_once():
    assert len({entry.name for entry in CHECKPOINTS}) == len(CHECKPOINTS)
    assert len({(entry.url, entry.member) for entry in CHECKPOINTS}) == len(CHECKPOINTS)


@pytest.mark.parametrize("entry", CHECKPOINTS, ids=lambda entry: entry.name)
def test_every_entry_makes_its_network(entry):
    with torch.device("meta"):
        network = entry.build()
    num_classes = {"ADE20K": 151, "Cityscapes": 19, "Pascal VOC 2012": 21}[entry.dataset]
    assert network.record.num_classes == entry.num_classes == num_classes
    assert num_classes in {len(weight) for name, weight in network.core.state_dict().items() if weight.ndim > 0}
    assert not network.record.pretrained


@pytest.mark.parametrize("entry", CHECKPOINTS, ids=lambda entry: entry.name)
def test_hashes_are_those_of_the_file_names(entry):
    stated = re.search(r"_\d{8}_\d{6}-([0-9a-f]{8})\.pth$", entry.url)
    assert entry.sha256 == (stated[1] if stated else None)
    assert entry.name.startswith("mmseg_") == bool(stated)


def test_a_network_by_name_is_verified_loaded_and_in_evaluation_mode(tmp_path, monkeypatch):
    case = CASES["mmseg pspnet r50"]
    path = case.write(tmp_path / "a.pth", case.expected()[1])
    small = replace(
        next(entry for entry in CHECKPOINTS if entry.name == "mmseg_pspnet_r50_voc"),
        arguments=case.small,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest()[:8],
    )
    small = replace(small, name="small")
    monkeypatch.setattr(table, "CHECKPOINTS", (small, replace(small, name="other", sha256="00000000")))
    monkeypatch.setattr(table, "_NUM_CLASSES", {"Pascal VOC 2012": 5})
    network = load_published("small", path)
    assert not network.training
    assert network.record.pretrained
    assert "auxiliary_head.conv_seg.weight" in network.left_out
    torch.testing.assert_close(network.double()(case.images().double()), case.expected()[0], rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="expected 00000000"):
        load_published("other", path)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"no published checkpoint is named 'upernet'; known are mmseg_deeplabv3plus"):
        load_published("upernet", tmp_path)


def test_the_documentation_shows_the_table():
    assert checkpoint_table() in (ROOT / "docs" / "published.md").read_text()
