"""Configurations of published figures: complete but for the download, which is the file that the table names."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from dataset_trees import ade_tree, cityscapes_tree, voc_tree, write_png

from segrobust.cli.evaluate_command import EvaluateCLI
from segrobust.cli.train_command import TrainCLI
from segrobust.networks.published import CHECKPOINTS, PublishedNetwork

ROOT = Path(__file__).parent.parent.parent.parent
CONFIGS = sorted((ROOT / "configs" / "reproduction").glob("*.yaml"))
NETWORKS = [path for path in CONFIGS if "model:" in path.read_text()]
TRAININGS = [path for path in NETWORKS if "AdversarialTask" in path.read_text()]
PGD100 = ROOT / "configs" / "reproduction" / "t08_pgd100.yaml"
EVALUATIONS = [path for path in NETWORKS if path not in TRAININGS]


def name(path):
    return path.stem


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for label, pixels in voc_tree(root / "voc").items():
        write_png(root / "voc/VOCdevkit/VOC2012/SegmentationClassAug" / f"{label}.png", pixels)
    cityscapes_tree(root / "cityscapes")
    ade_tree(root / "ade20k")
    return root


@pytest.fixture
def command(monkeypatch, tmp_path, trees):
    for kind in ("voc", "cityscapes", "ade20k"):
        monkeypatch.setenv(f"SEGROBUST_{kind.upper()}", str(trees / kind))

    def make(cli, *arguments):
        monkeypatch.setattr("sys.argv", ["command", *map(str, arguments), "--run_dir", str(tmp_path / "run")])
        with torch.device("meta"):
            return cli()

    return make


def network_of(content):
    """The specification of the published network, in whatever wrappers."""
    spec = content["model"]["init_args"]["network"]
    while "network" in spec["init_args"]:
        spec = spec["init_args"]["network"]
    return spec


def without_download(path, folder):
    """The same configuration, of a network without weights, for tiny data."""
    content = yaml.safe_load(path.read_text())
    for key in ("checkpoint", "sha256"):
        network_of(content)["init_args"].pop(key, None)
    if "batch_size" in content["data"]["init_args"]:
        content["data"]["init_args"]["batch_size"] = 2
    written = folder / path.name
    written.write_text(yaml.safe_dump(content))
    return written


@pytest.mark.parametrize("path", NETWORKS, ids=name)
def test_network_data_and_attacks_fit_together(path, command, tmp_path):
    more = ["--config", PGD100] if path in TRAININGS else []
    cli = command(EvaluateCLI, "--config", without_download(path, tmp_path), *more)
    (network,) = (module for module in cli.model.network.modules() if isinstance(module, PublishedNetwork))
    space = cli.datamodule.label_space
    assert network.record.num_classes == space.num_classes
    for index in range(len(cli.datamodule.val)):
        mask = cli.datamodule.val[index]["mask"]
        assert mask.ndim == 2
        if "VoidAsClass" in path.read_text():
            assert mask.min() >= 0
            assert mask.max() < space.num_classes
    options = cli.config_init
    assert options.attacks
    assert all(0 < eps < 1 for eps in options.eps or [])
    if any(not attack.minimal_norm for attack in options.attacks.values()):
        assert options.eps


@pytest.mark.parametrize("path", EVALUATIONS, ids=name)
def test_the_download_is_in_the_table_and_named_in_the_header(path):
    content, text = yaml.safe_load(path.read_text()), path.read_text()
    spec = network_of(content)
    arguments = dict(spec["init_args"])
    file = Path(arguments.pop("checkpoint"))
    sha256 = arguments.pop("sha256", None)
    (entry,) = (entry for entry in CHECKPOINTS if re.search(rf"\b{entry.name}\b", text))
    assert spec["class_path"].rsplit(".", 1)[1] == entry.architecture.__name__
    assert arguments.pop("num_classes") == entry.num_classes
    assert arguments == dict(entry.arguments)
    assert sha256 == entry.sha256
    assert file.parent == Path("checkpoints")
    if entry.sha256 is not None:
        assert file.name == entry.url.rsplit("/", 1)[1]


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_the_header_names_row_and_command(path):
    header = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert re.match(r"# T\d+[.,] ", header)
    assert int(path.stem[1:3]) == int(re.match(r"# T(\d+)", header)[1])
    assert f"--config configs/reproduction/{path.name}" in header
    for named in re.findall(r"configs/\S+\.yaml", header):
        assert (ROOT / named).exists()


@pytest.mark.parametrize("path", [path for path in TRAININGS if path.stem.startswith("t08")][::3], ids=name)
def test_trainings_are_made_and_survive_a_round_trip(path, command, tmp_path):
    cli = command(TrainCLI, "--config", without_download(path, tmp_path), "--trainer.accelerator", "cpu")
    assert (cli.model.clean_fraction, cli.model.attack.num_steps) == (0.5, 7)
    saved = tmp_path / "saved.yaml"
    saved.write_text(cli.parser.dump(cli.config, skip_none=False))
    again = command(TrainCLI, "--config", saved)
    for key in ("model", "data", "seed_everything"):
        assert again.config[key] == cli.config[key]


def test_a_download_that_is_missing_is_told(command, capsys):
    with pytest.raises(SystemExit):
        command(EvaluateCLI, "--config", ROOT / "configs/reproduction/t06_pgd20_voc_deeplabv3plus.yaml")
    message = capsys.readouterr().err
    assert "there is no file" in message
    assert "deeplabv3plus_r50-d8_512x512_40k_voc12aug_20200613_161759-e1b43aa9.pth" in message
