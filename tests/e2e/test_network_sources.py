"""Networks of libraries, and weights of other data, as `evaluate.py` takes them."""

import json
from pathlib import Path

import pytest
import yaml
from networks.saved import save_smp

from segrobust import cli
from segrobust.data import SyntheticScenes
from segrobust.label_space import LabelSpace
from segrobust.networks import make_record, save_weights
from segrobust.networks.smp_network import SMPNetwork

FGSM = ("--attacks", json.dumps({"fgsm": {"class_path": "segrobust.attacks.FGSM"}}), "--eps", "[0.01]")
SCENES = {"num_scenes": 2, "split": "val", "size": [48, 64]}


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs `evaluate.py` in this process on a network that Segmentation Models PyTorch saved."""
    source = tmp_path / "saved"
    save_smp(source, classes=SyntheticScenes(**SCENES).label_space.num_classes)
    monkeypatch.chdir(tmp_path)
    arguments = {"source": str(source), "mean": [0, 0, 0], "std": [1, 1, 1]}
    network = {"class_path": "segrobust.networks.SMPNetwork", "init_args": arguments}
    data = {"val": {"class_path": "segrobust.data.SyntheticScenes", "init_args": SCENES}, "num_workers": 0}
    config = {
        "model": {"class_path": "segrobust.tasks.SegmentationTask", "init_args": {"network": network}},
        "data": {"class_path": "segrobust.data.SegmentationDataModule", "init_args": data},
    }
    Path("experiment.yaml").write_text(yaml.safe_dump(config))

    def call(*extra):
        fixed = ["--config", "experiment.yaml", "--run_dir", "run", "--checks", "off", "--panels", "0", *FGSM]
        monkeypatch.setattr("sys.argv", ["evaluate.py", *fixed, *extra])
        cli.evaluate()

    return call


def test_a_network_that_came_with_its_weights_needs_no_checkpoint(command, tmp_path, capsys):
    command()
    assert "mIoU^D" in capsys.readouterr().out
    assert list((tmp_path / "run").glob("evaluation-*"))


def test_a_checkpoint_that_is_named_must_exist(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        command("--checkpoint", "nowhere.ckpt")
    assert "nowhere.ckpt" in f"{stopped.value.code}{capsys.readouterr().err}"


def test_weights_of_other_classes_are_refused_or_shown(command, tmp_path, capsys):
    space = SyntheticScenes(**SCENES).label_space
    turned = LabelSpace(names=space.names[::-1], palette=space.palette)
    network = SMPNetwork(str(tmp_path / "saved"), mean=[0, 0, 0], std=[1, 1, 1])
    save_weights(network, tmp_path / "other.safetensors", metadata=make_record(network, turned))
    with pytest.raises(SystemExit) as stopped:
        command("--checkpoint", "other.safetensors")
    for fragment in (", ".join(turned.names), ", ".join(space.names), "--accept_mismatch true"):
        assert fragment in stopped.value.code
    command("--checkpoint", "other.safetensors", "--accept_mismatch", "true")
    assert "warning  other.safetensors has the classes" in capsys.readouterr().out
