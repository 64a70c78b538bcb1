"""Every YAML file that is shipped parses, makes what it names, and says the same after a round trip."""

import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from dataset_trees import ade_tree, camvid32_tree, cityscapes_tree, voc_tree, write_png
from jsonargparse import ArgumentParser
from networks.saved import save_segformer, save_smp
from torchvision import models

from segrobust.attacks import Attack
from segrobust.attacks.targets import EraseClasses, Targets
from segrobust.cli.evaluate_command import EvaluateCLI, run_name
from segrobust.cli.train_command import TrainCLI
from segrobust.data import SegmentationDataModule
from segrobust.evaluation import plan_attacks

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
EXPERIMENTS = sorted([*(CONFIGS / "experiment").glob("*.yaml"), CONFIGS / "demo.yaml"])
ATTACKS = sorted([*(CONFIGS / "attack").glob("*.yaml"), CONFIGS / "demo_evaluation.yaml"])
TRAINERS = sorted((CONFIGS / "trainer").glob("*.yaml"))
DATA = sorted((CONFIGS / "data").glob("*.yaml"))
REPRODUCTIONS = sorted((CONFIGS / "reproduction").glob("*.yaml"))  # see networks/published/test_reproduction_configs
MODELS = sorted((CONFIGS / "model").glob("*.yaml"))


def name(path):
    return path.name


def needs_camvid(path):
    if "CamVid" in path.read_text() and "SEGROBUST_CAMVID" not in os.environ:
        pytest.skip("the experiment reads CamVid: set SEGROBUST_CAMVID to its folder")


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Makes a CLI from arguments, its run folder in a temporary place."""

    def make(cli, *arguments):
        monkeypatch.setattr("sys.argv", ["command", *map(str, arguments), "--run_dir", str(tmp_path / "run")])
        return cli()

    return make


def test_every_file_is_covered():
    found = set(CONFIGS.rglob("*.yaml"))
    assert found == {*EXPERIMENTS, *ATTACKS, *TRAINERS, *MODELS, *DATA, *REPRODUCTIONS}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name)
def test_experiment_makes_task_and_data_and_survives_a_round_trip(path, command, tmp_path):
    needs_camvid(path)
    cli = command(TrainCLI, "--config", path)
    assert cli.datamodule.label_space.num_classes == next(
        module.out_channels for module in reversed(list(cli.model.network.modules())) if hasattr(module, "out_channels")
    )
    saved = tmp_path / "saved.yaml"
    saved.write_text(cli.parser.dump(cli.config, skip_none=False))  # as Lightning saves it with a run
    again = command(TrainCLI, "--config", saved)
    for key in ("model", "data", "seed_everything"):
        assert again.config[key] == cli.config[key]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name)
def test_experiment_serves_the_evaluation_too(path, command):
    needs_camvid(path)
    cli = command(EvaluateCLI, "--config", path, "--config", CONFIGS / "attack" / "pgd.yaml", "--max-images", 3)
    assert cli.config_init.max_images == 3
    assert set(cli.config_init.attacks) == {"pgd"}


@pytest.mark.parametrize("path", ATTACKS, ids=name)
def test_attacks_are_made_and_survive_a_round_trip(path):
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--attacks", type=dict[str, Attack])
    parser.add_argument("--targets", type=Targets | None)
    parser.add_argument("--max_images", type=int)
    parsed = parser.parse_args(["--config", str(path)])
    made = parser.instantiate(parsed)
    again = parser.instantiate(parser.parse_object(yaml.safe_load(parser.dump(parsed))))
    assert made.attacks
    assert (again.attacks, again.targets) == (made.attacks, made.targets)
    plan_attacks(made.attacks, None, made.targets)


@pytest.mark.parametrize("path", DATA, ids=name)
def test_data_are_read_from_their_layouts_and_survive_a_round_trip(path, tmp_path, monkeypatch):
    voc_tree(tmp_path / "voc")
    for label, pixels in voc_tree(tmp_path / "voc2").items():
        write_png(tmp_path / "voc/VOCdevkit/VOC2012/SegmentationClassAug" / f"{label}.png", pixels)
    cityscapes_tree(tmp_path / "cityscapes")
    ade_tree(tmp_path / "ade20k")
    camvid32_tree(tmp_path / "camvid32")
    for kind in ("voc", "cityscapes", "ade20k", "camvid32"):
        monkeypatch.setenv(f"SEGROBUST_{kind.upper()}", str(tmp_path / kind))
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--data", type=SegmentationDataModule)
    small = ["--data.init_args.batch_size=2"] if "_train" in path.stem else []
    parsed = parser.parse_args(["--config", str(path), *small])
    module = parser.instantiate(parsed).data
    asked = re.search(r"(?:size|crop): \[(\d+), (\d+)\]", path.read_text())
    for dataset in filter(None, (module.train, module.val)):
        image = dataset[1]["image"]
        if asked:
            assert image.shape[1:] == (int(asked[1]), int(asked[2]))
    if path.stem == "voc_alma_prox":
        assert min(image.shape[1:]) == 512
    assert parser.parse_string(parser.dump(parsed)).data == parsed.data
    # After an experiment on other data it says the same: jsonargparse keeps arguments that a later file does not name.
    other = tmp_path / "other.yaml"
    init_args = {"root": "elsewhere", "split": "x", "size": [4, 4], "transform": None}
    folder = {"class_path": "segrobust.data.Folder", "init_args": init_args}
    jitter = {
        "class_path": "segrobust.data.TrainTransform",
        "init_args": {"size": [4, 4], "scale": [1, 1], "flip": 0.0},
    }
    cut = {"class_path": "segrobust.data.EvalTransform", "init_args": {"shorter_side": 3, "crop": [4, 4]}}
    data = {
        "train": {**folder, "init_args": {**init_args, "transform": jitter}},
        "val": {**folder, "init_args": {**init_args, "transform": cut}},
        "test": folder,
    }
    class_path = "segrobust.data.SegmentationDataModule"
    other.write_text(yaml.safe_dump({"data": {"class_path": class_path, "init_args": data}}))
    after = parser.parse_args(["--config", str(other), "--config", str(path), *small]).data.init_args
    for split in ("train", "val", "test"):
        assert after[split] == parsed.data.init_args[split]


def test_targets_are_a_part_of_the_command_and_of_the_name_of_its_folder(command):
    cli = command(EvaluateCLI, "--config", CONFIGS / "demo.yaml", "--config", CONFIGS / "attack" / "erase_class.yaml")
    targets, network = cli.config_init.targets, cli.model.network
    assert targets == EraseClasses(classes=("pedestrian",))
    plain, one, other = (run_name(network, t) for t in (None, targets, EraseClasses(classes=("car",))))
    assert one.startswith(f"{plain}-EraseClasses-")
    assert one != other


@pytest.mark.parametrize("path", TRAINERS, ids=name)
def test_trainer_fragment_makes_a_trainer(path, command):
    cli = command(
        TrainCLI,
        "--config",
        CONFIGS / "demo.yaml",
        "--config",
        path,
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        1,
    )
    given = yaml.safe_load(path.read_text())["trainer"]
    for key in set(given) - {"devices"}:
        made = getattr(cli.trainer, key)
        assert type(made).__name__ == given[key]["class_path"].rsplit(".", 1)[1]


def fill_in(path, folder):
    """Arguments in place of the paths that a fragment leaves open, of a network of nine classes that is saved there."""
    place = "--model.init_args.network.init_args"
    if path.stem == "smp":
        save_smp(folder, classes=9)
        return [f"{place}.source", folder, f"{place}.mean", "[0, 0, 0]", f"{place}.std", "[1, 1, 1]"]
    if path.stem == "huggingface":
        save_segformer(folder, names=tuple("abcdefghi"))
        return [f"{place}.source", folder]
    if path.stem == "torchvision":
        network = models.get_model("lraspp_mobilenet_v3_large", num_classes=9, weights=None, weights_backbone=None)
        torch.save(network.state_dict(), folder / "weights.pth")
        return [f"{place}.file", folder / "weights.pth"]
    if path.stem == "program":
        torch.jit.script(torch.nn.Conv2d(3, 9, 3, padding=1)).save(folder / "program.pt")
        return [f"{place}.file", folder / "program.pt"]
    return []


@pytest.mark.parametrize("path", MODELS, ids=name)
def test_model_fragment_replaces_the_network_of_an_experiment(path, command, tmp_path):
    cli = command(TrainCLI, "--config", CONFIGS / "demo.yaml", "--config", path, *fill_in(path, tmp_path))
    given = yaml.safe_load(path.read_text())["model"]["init_args"]["network"]["class_path"]
    assert cli.config.model.init_args.network.class_path == given
    assert cli.model.network.eval()(torch.rand(1, 3, 256, 256)).shape == (1, 9, 256, 256)
    saved = tmp_path / "saved.yaml"
    saved.write_text(cli.parser.dump(cli.config, skip_none=False))
    assert command(TrainCLI, "--config", saved).config["model"] == cli.config["model"]


def test_unknown_key_is_named(command, tmp_path, capsys):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((CONFIGS / "demo.yaml").read_text() + "\nmodle: {class_path: segrobust.tasks.SegmentationTask}\n")
    with pytest.raises(SystemExit):
        command(TrainCLI, "--config", wrong)
    assert "modle" in capsys.readouterr().err
