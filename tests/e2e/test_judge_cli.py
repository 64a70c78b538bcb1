"""`evaluate.py judge` as a user runs it, on networks of one layer and generated scenes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from segrobust.attacks import PGD
from segrobust.cli.judge_command import judge_command
from segrobust.data import SyntheticScenes
from segrobust.evaluation import evaluate
from segrobust.networks import save_weights

ROOT = Path(__file__).parent.parent.parent
NUM_CLASSES = 9


def experiment(channels=NUM_CLASSES):
    scenes = {
        split: {
            "class_path": "segrobust.data.SyntheticScenes",
            "init_args": {"num_scenes": 3, "split": split, "size": [48, 64]},
        }
        for split in ("train", "val")
    }
    network = {
        "class_path": "torch.nn.Conv2d",
        "init_args": {"in_channels": 3, "out_channels": channels, "kernel_size": 3, "padding": 1},
    }
    return {
        "model": {"class_path": "segrobust.tasks.SegmentationTask", "init_args": {"network": network}},
        "data": {
            "class_path": "segrobust.data.SegmentationDataModule",
            "init_args": {**scenes, "batch_size": 2, "num_workers": 0},
        },
    }


def network(seed):
    torch.manual_seed(seed)
    return nn.Conv2d(3, NUM_CLASSES, 3, padding=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders `a` and `b`, each with weights and a run against them, and an experiment file."""
    root = tmp_path_factory.mktemp("judging")
    scenes = SyntheticScenes(num_scenes=3, split="val", size=(48, 64))
    for seed, name in enumerate("ab"):
        (root / name).mkdir()
        save_weights(network(seed), root / name / "weights.safetensors")
        evaluate(
            network(seed),
            scenes,
            attacks={"pgd": PGD(num_steps=2)},
            eps=(4 / 255,),
            run_dir=root / name / "run",
            keep_adversarials=True,
            panels=0,
            checks="off",
            progress=False,
        )
    (root / "experiment.yaml").write_text(yaml.safe_dump(experiment()))
    return root


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    for path in made.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["evaluate.py", "judge"])
    return tmp_path


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        judge_command(arguments)
    assert stopped.value.code not in (0, None)
    assert sys.argv == ["evaluate.py", "judge"]
    return capsys.readouterr().err


ANOTHER = ("--config", "experiment.yaml", "--checkpoint", "b/weights.safetensors")


def test_two_runs_judged_by_another_network(folder):
    command = [sys.executable, ROOT / "evaluate.py", "judge", "a/run", "b/run", *ANOTHER, "--batch_size", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "b: 3 of 3 adversarial images evaluated" in done.stdout
    assert "made against" in done.stdout
    matrix = json.loads((folder / "judgements" / "transfer.json").read_text())
    assert matrix["judges"] == ["Conv2d", "b"]
    assert len(matrix["rows"]) == 4
    assert (folder / "judgements" / "transfer.png").stat().st_size > 1000
    judged = [*(folder / "judgements").glob("run-*/*/records/rank000.jsonl")]
    assert [file.read_text().count("\n") for file in judged] == [6, 6]


def test_a_name_and_another_folder(folder, capsys):
    judge_command(["a/run", *ANOTHER, "--name", "robust one", "--output", "tables"])
    assert json.loads((folder / "tables" / "transfer.json").read_text())["judges"][1] == "robust one"
    assert "robust one: 3 of 3" in capsys.readouterr().out


def test_the_own_network_confirms_or_ends_with_status_1(folder, capsys):
    own = ("a/run", "--config", "experiment.yaml", "--run_dir", "a")
    judge_command(own)
    assert "successes and shares of broken pixels: ok" in capsys.readouterr().out
    (file,) = (folder / "a" / "run" / "adversarials").rglob("000001.safetensors")
    save_file({"adv": load_file(file)["adv"] + 1}, file)
    for path in (folder / "judgements").rglob("*.jsonl"):
        path.unlink()
    with pytest.raises(SystemExit) as stopped:
        judge_command(own)
    assert stopped.value.code == 1
    out = capsys.readouterr().out
    assert "fail" in out
    assert "image 1 (" in out
    assert "outside [0, 1]" in out


class TestBadInput:
    def test_no_run(self, folder, capsys):
        assert "RUN" in refused(capsys, *ANOTHER)
        assert "evaluate.py judge" in refused(capsys)

    def test_a_folder_without_run(self, folder, capsys):
        message = refused(capsys, "a", *ANOTHER)
        assert message.startswith("evaluate.py judge: error: a holds no run")

    def test_another_split(self, folder, capsys):
        assert "no test data" in refused(capsys, "a/run", *ANOTHER, "--split", "test")

    def test_other_data(self, folder, capsys):
        assert "other data" in refused(capsys, "a/run", *ANOTHER, "--data.init_args.val.init_args.num_scenes", "2")

    def test_another_architecture(self, folder, capsys):
        (folder / "other.yaml").write_text(yaml.safe_dump(experiment(channels=5)))
        message = refused(capsys, "a/run", "--config", "other.yaml", "--checkpoint", "b/weights.safetensors")
        assert "another architecture" in message

    def test_a_damaged_image(self, folder, capsys):
        (file,) = (folder / "a" / "run" / "adversarials").rglob("000001.safetensors")
        file.write_bytes(file.read_bytes()[:50])
        assert f"{file.relative_to(folder)} is damaged" in refused(capsys, "a/run", *ANOTHER)


def test_a_run_of_a_stranger_that_leads_elsewhere_or_invents_a_success_is_one_line(folder, capsys):
    shard = folder / "a" / "run" / "records" / "rank000.jsonl"
    lines = shard.read_text()
    first = next(line for line in lines.splitlines() if '"kind":"fixed-budget"' in line)
    success = '"success":true' in first
    invented = first.replace(f'"success":{str(success).lower()}', f'"success":{str(not success).lower()}')
    shard.write_text(lines.replace(first, invented))
    message = refused(capsys, "a/run", *ANOTHER)
    assert "success is" in message
    assert message.strip().count("\n") == 0
    shard.unlink()
    shard.symlink_to(folder / "experiment.yaml")
    message = refused(capsys, "a/run", *ANOTHER)
    assert "rank000.jsonl is a link" in message
    assert message.strip().count("\n") == 0
