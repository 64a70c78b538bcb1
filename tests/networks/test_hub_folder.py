"""Folders of the hub: written, moved into the hub's cache, and loaded by commit; also by the libraries themselves."""

import json
import shutil

import albumentations
import huggingface_hub.constants
import pytest
import segmentation_models_pytorch as smp
import torch
from networks.saved import as_tensor, enliven, photograph, save_segformer, transformers
from torch import nn
from versions import older

from segrobust.label_space import LabelSpace
from segrobust.networks import (
    ClassOrder,
    FullResolution,
    HuggingFaceNetwork,
    Normalized,
    SlidingWindow,
    find_conflicts,
    load_network,
    read_record,
    save_network,
    weights_digest,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SPACE = LabelSpace(names=("road", "sky", "car"), palette=((1, 1, 1), (2, 2, 2), (3, 3, 3)))


def smp_network(**settings):
    inner = smp.FPN(**{"encoder_name": "tu-test_byobnet", "encoder_weights": None, "classes": 3} | settings)
    return Normalized(FullResolution(enliven(inner), stride=32), MEAN, STD)


def logits(network, photo):
    with torch.no_grad():
        return network.eval()(as_tensor(photo))


PHOTO = photograph(50, 70)


def test_a_network_of_smp_is_loaded_from_the_hub_and_by_the_library(tmp_path, monkeypatch):
    if older("huggingface_hub", "2"):
        pytest.skip("huggingface_hub 1.33 reads only caches that it has written itself")
    network = smp_network().train()
    assert save_network(network, tmp_path / "saved", label_space=SPACE)
    assert network.training
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    shutil.copytree(tmp_path / "saved", tmp_path / "hub" / "models--someone--robust" / "snapshots" / COMMIT)
    with pytest.raises(ValueError, match="commit hash"):
        load_network("someone/robust")

    loaded = load_network("someone/robust", COMMIT)
    torch.testing.assert_close(logits(loaded, PHOTO), logits(network, PHOTO), rtol=1e-5, atol=1e-5)
    assert weights_digest(loaded) == weights_digest(network)
    assert loaded.record.class_names == SPACE.names
    assert not find_conflicts(loaded, SPACE)

    theirs = smp.from_pretrained(tmp_path / "saved").eval()
    prepare = albumentations.Compose.from_pretrained(tmp_path / "saved")
    photo = photograph(64, 96)
    with torch.no_grad():
        found = theirs(torch.from_numpy(prepare(image=photo)["image"]).permute(2, 0, 1)[None])
    torch.testing.assert_close(found, logits(loaded, photo), rtol=1e-4, atol=1e-4)


def test_a_network_of_transformers_is_loaded_again(tmp_path):
    transformers()
    save_segformer(tmp_path / "theirs", image_mean=list(MEAN), image_std=list(STD))
    network = HuggingFaceNetwork(str(tmp_path / "theirs"))
    enliven(network, seed=1)
    assert save_network(network, tmp_path / "saved")
    loaded = load_network(str(tmp_path / "saved"))
    torch.testing.assert_close(logits(loaded, PHOTO), logits(network, PHOTO), rtol=1e-5, atol=1e-5)
    assert loaded.record.class_names == ("road", "sky", "car")


class Own(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 3, 1))

    def forward(self, images):
        return self.layers(images)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Normalized(Own(), MEAN, STD),
        lambda: Own(),
        lambda: ClassOrder(smp_network(), [2, 1, 0]),
        lambda: SlidingWindow(smp_network(), window=(64, 64), stride=(32, 32)),
    ],
    ids=["own", "without normalisation", "another order of classes", "windows"],
)
def test_a_folder_that_says_too_little_needs_the_module(tmp_path, make):
    network = enliven(make())
    assert not save_network(network, tmp_path / "saved", label_space=SPACE)
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["model.safetensors"]
    with pytest.raises(ValueError, match=r"no config\.json.*network=module"):
        load_network(str(tmp_path / "saved"))
    loaded = load_network(str(tmp_path / "saved"), network=make())
    assert logits(loaded, PHOTO).equal(logits(network, PHOTO))
    assert read_record(tmp_path / "saved").label_space == SPACE


def test_another_normalisation_is_refused_with_the_line_to_write(tmp_path):
    save_network(Normalized(Own(), MEAN, STD), tmp_path / "saved")
    for network in (Own(), Normalized(Own())):
        with pytest.raises(ValueError, match=r"Normalized\(network, mean=\(0\.4, 0\.5, 0\.6\)"):
            load_network(str(tmp_path / "saved"), network=network)


def test_a_second_network_leaves_nothing_of_the_first(tmp_path):
    assert save_network(smp_network(), tmp_path / "saved")
    (tmp_path / "saved" / "README.md").write_text("mine")
    assert not save_network(Own(), tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"model.safetensors", "README.md"}


def test_settings_of_a_stranger_run_no_code(tmp_path):
    save_network(smp_network(), tmp_path / "saved")
    config = tmp_path / "saved" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_model_class": "os.system"}))
    with pytest.raises(ValueError, match=r"architecture 'os.system'"):
        load_network(str(tmp_path / "saved"))
