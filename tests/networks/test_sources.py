"""Folders, and repositories of the hub at one commit."""

import json
import shutil

import huggingface_hub.constants
import pytest
import segmentation_models_pytorch as smp
import torch
from networks.saved import as_tensor, photograph, save_segformer, save_smp, transformers
from segmentation_models_pytorch.encoders import encoders
from versions import older

from segrobust.networks import HuggingFaceNetwork, SMPNetwork, TimmNetwork

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub that holds what is put into it, and no way to the hub itself."""
    if older("huggingface_hub", "2"):
        pytest.skip("huggingface_hub 1.33 reads only caches that it has written itself")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def put(name, folder, commit=COMMIT):
        snapshot = tmp_path / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / commit
        shutil.copytree(folder, snapshot)

    return put


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12]])
def test_a_hub_id_without_a_commit_is_refused(hub, revision):
    del hub
    for make in (SMPNetwork, HuggingFaceNetwork):
        with pytest.raises(ValueError, match=r"someone/network is no folder.*commit hash of 40 digits"):
            make("someone/network", revision=revision)
    if revision is not None:
        with pytest.raises(ValueError, match=r"timm/test_byobnet.*commit hash"):
            TimmNetwork("test_byobnet", 3, revision=revision)


def test_a_commit_of_the_hub_is_what_is_loaded(hub, tmp_path):
    theirs = save_smp(tmp_path / "saved")
    hub("someone/network", tmp_path / "saved")
    ours = SMPNetwork("someone/network", revision=COMMIT, mean=[0, 0, 0], std=[1, 1, 1]).eval()
    images = torch.rand(1, 3, 64, 64)
    assert ours(images).equal(theirs(images))
    assert ours.record.source == "someone/network"


@pytest.mark.parametrize("from_hub", [False, True])
def test_an_encoder_of_the_library_was_trained_as_the_hub_says(hub, tmp_path, from_hub):
    """Its settings lie in the cache where its weights were fetched; here with bytes, and blue first."""
    theirs = save_smp(tmp_path / "saved", encoder_name="mobilenet_v2")
    config = tmp_path / "saved" / "config.json"
    config.write_text(config.read_text().replace('"encoder_weights": null', '"encoder_weights": "imagenet"'))
    hub("someone/network", tmp_path / "saved")
    arguments = {"source": "someone/network", "revision": COMMIT} if from_hub else {"source": str(tmp_path / "saved")}
    with pytest.raises((ValueError, OSError), match=r"records no normalisation|offline|cannot find"):
        SMPNetwork(**arguments)

    settings = {"mean": [103.0, 116.0, 123.0], "std": [57.0, 58.0, 59.0], "input_range": [0, 255], "input_space": "BGR"}
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text(json.dumps(settings))
    pinned = encoders["mobilenet_v2"]["pretrained_settings"]["imagenet"]
    hub(pinned["repo_id"], tmp_path / "encoder", pinned["revision"])
    photo = photograph(64, 64)
    prepared = smp.encoders._preprocessing.preprocess_input(photo.astype("float32"), **settings)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(prepared).float().permute(2, 0, 1)[None])
        found = SMPNetwork(**arguments).eval()(as_tensor(photo))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_code_in_a_repository_is_neither_run_nor_needed(hub, tmp_path):
    transformers()
    saved = tmp_path / "saved"
    save_segformer(saved)
    (saved / "modeling.py").write_text("raise SystemExit('code of a repository was run')")
    config = (saved / "config.json").read_text()
    auto_map = '{"auto_map": {"AutoModelForSemanticSegmentation": "modeling.Evil"},'
    (saved / "config.json").write_text(config.replace("{", auto_map, 1))
    hub("someone/segformer", saved)
    assert HuggingFaceNetwork("someone/segformer", revision=COMMIT).record.num_classes == 3


def test_a_folder_has_no_revision(tmp_path):
    save_smp(tmp_path)
    with pytest.raises(ValueError, match="no effect"):
        SMPNetwork(str(tmp_path), revision=COMMIT, mean=[0, 0, 0], std=[1, 1, 1])


@pytest.mark.parametrize("source", ["/nowhere/at/all", "nowhere", "a/b/c", "./owner/name"])
def test_what_is_neither_folder_nor_hub_id_is_not_found(source):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        SMPNetwork(source, revision=COMMIT)
