"""Networks of libraries, and weights of other data, as `evaluate.py` takes them."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from networks.mask_classifiers import mask2former
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


def test_a_network_that_classifies_masks_is_evaluated(command, tmp_path, capsys):
    theirs, processor = mask2former(SyntheticScenes(**SCENES).label_space.num_classes)
    theirs.save_pretrained(tmp_path / "masks")
    processor.save_pretrained(tmp_path / "masks")
    settings = yaml.safe_load(Path("experiment.yaml").read_text())
    settings["model"]["init_args"]["network"] = {
        "class_path": "segrobust.networks.HuggingFaceNetwork",
        "init_args": {"source": str(tmp_path / "masks"), "product_size": "masks"},
    }
    Path("experiment.yaml").write_text(yaml.safe_dump(settings))
    command()
    assert "mIoU^D" in capsys.readouterr().out


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
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    for fragment in (", ".join(turned.names), ", ".join(space.names), "--accept_mismatch true"):
        assert fragment in message
    command("--checkpoint", "other.safetensors", "--accept_mismatch", "true")
    assert "warning  other.safetensors has the classes" in capsys.readouterr().out


MODULE = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, file=None):
        super().__init__()
        self.body = nn.Conv2d(3, {classes}, 1)
        if file is not None:
            self.load_state_dict(torch.load(file))

    def forward(self, images):
        return self.body(images)

def make_own(file=None):
    return Own(file)

def make_own_too(file=None):
    return Own(file)
"""


@pytest.fixture
def of_a_stranger(command, monkeypatch, tmp_path):
    """The command on a module of a stranger, which loads its weights itself if it gets their file."""
    classes = SyntheticScenes(**SCENES).label_space.num_classes
    (tmp_path / "strangers_package.py").write_text(MODULE.format(classes=classes))
    monkeypatch.syspath_prepend(tmp_path)
    weights = {"body.weight": torch.ones(classes, 3, 1, 1), "body.bias": torch.arange(classes).float()}
    torch.save(weights, tmp_path / "own.pth")
    torch.save({"model": weights, "model_ema": {name: -weight for name, weight in weights.items()}}, "two.pth")
    settings = yaml.safe_load(Path("experiment.yaml").read_text())

    def call(name, *extra, **arguments):
        network = {"class_path": f"strangers_package.{name}", "init_args": arguments}
        settings["model"]["init_args"]["network"] = network
        Path("experiment.yaml").write_text(yaml.safe_dump(settings))
        command("--max_images", "1", *extra)

    yield call
    sys.modules.pop("strangers_package", None)


def test_a_module_that_loads_its_own_weights_needs_no_checkpoint(of_a_stranger, capsys):
    of_a_stranger("Own", file="own.pth")
    assert "weights  the network's own" in capsys.readouterr().out


def test_a_random_network_needs_a_checkpoint(of_a_stranger, capsys):
    with pytest.raises(SystemExit):
        of_a_stranger("Own")
    message = capsys.readouterr().err
    for fragment in ("2 of its parameters are random (body.weight, body.bias)", "--checkpoint FILE"):
        assert fragment in message


def test_a_function_without_annotations_is_found_by_class_path(of_a_stranger, capsys):
    of_a_stranger("make_own", file="own.pth")
    assert "mIoU^D" in capsys.readouterr().out


def test_a_copy_is_chosen_on_the_command_line(of_a_stranger, capsys):
    with pytest.raises(SystemExit):
        of_a_stranger("make_own_too", "--checkpoint", "two.pth")
    assert "--checkpoint_part model" in capsys.readouterr().err
    of_a_stranger("make_own_too", "--checkpoint", "two.pth", "--checkpoint_part", "model_ema")
    assert "weights  two.pth: 2 tensors of entry 'model_ema'; left out: model (2)" in capsys.readouterr().out
