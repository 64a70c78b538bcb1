"""Every YAML file that is shipped parses, makes what it names, and says the same after a round trip."""

import os
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from segrobust.attacks import Attack
from segrobust.cli import EvaluateCLI, TrainCLI

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
EXPERIMENTS = sorted([*(CONFIGS / "experiment").glob("*.yaml"), CONFIGS / "demo.yaml"])
ATTACKS = sorted([*(CONFIGS / "attack").glob("*.yaml"), CONFIGS / "demo_evaluation.yaml"])
TRAINERS = sorted((CONFIGS / "trainer").glob("*.yaml"))


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
    assert found == {*EXPERIMENTS, *ATTACKS, *TRAINERS}


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
    parser.add_argument("--max_images", type=int)
    parsed = parser.parse_args(["--config", str(path)])
    attacks = parser.instantiate(parsed).attacks
    again = parser.parse_object(yaml.safe_load(parser.dump(parsed)))
    assert attacks
    assert parser.instantiate(again).attacks == attacks


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


def test_unknown_key_is_named(command, tmp_path, capsys):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((CONFIGS / "demo.yaml").read_text() + "\nmodle: {class_path: segrobust.tasks.SegmentationTask}\n")
    with pytest.raises(SystemExit):
        command(TrainCLI, "--config", wrong)
    assert "modle" in capsys.readouterr().err
