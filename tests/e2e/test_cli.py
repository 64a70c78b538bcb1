"""The two commands as a user runs them, on a network of one layer and generated scenes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from disks import full_disk

from segrobust import cli
from segrobust.data import SyntheticScenes
from segrobust.evaluation import summarize_run
from segrobust.networks import Normalized, save_weights

ROOT = Path(__file__).parent.parent.parent


def scenes(number, split):
    return {
        "class_path": "segrobust.data.SyntheticScenes",
        "init_args": {"num_scenes": number, "split": split, "size": [48, 64]},
    }


def conv(channels=9):
    return {
        "class_path": "segrobust.networks.Normalized",
        "init_args": {
            "network": {
                "class_path": "torch.nn.Conv2d",
                "init_args": {"in_channels": 3, "out_channels": channels, "kernel_size": 3, "padding": 1},
            }
        },
    }


def experiment(**task):
    return {
        "seed_everything": 0,
        "model": {
            "class_path": "segrobust.tasks.AdversarialTask",
            "init_args": {
                "network": conv(),
                "attack": {"class_path": "segrobust.attacks.FGSM", "init_args": {"eps": 0.01}},
                **task,
            },
        },
        "data": {
            "class_path": "segrobust.data.SegmentationDataModule",
            "init_args": {
                "train": scenes(4, "train"),
                "val": scenes(3, "val"),
                "batch_size": 2,
                "eval_batch_size": 2,
                "num_workers": 0,
            },
        },
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs an entry point in this process with arguments, after an experiment file in the temporary folder."""
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment()))
    monkeypatch.chdir(tmp_path)

    def call(entry, *arguments, config=path):
        run_dir = [] if "--run_dir" in arguments else ["--run_dir", "run"]
        monkeypatch.setattr("sys.argv", [f"{entry.__name__}.py", "--config", str(config), *run_dir, *arguments])
        entry()

    return call


def refused(call, *arguments, capsys, **keywords):
    """What a command prints when it refuses its arguments."""
    with pytest.raises(SystemExit) as stopped:
        call(*arguments, **keywords)
    assert stopped.value.code == 2
    return capsys.readouterr().err


ATTACK = (
    "--attacks",
    json.dumps({"pgd": {"class_path": "segrobust.attacks.PGD", "init_args": {"num_steps": 2}}}),
    "--eps",
    "[0.01, 0.02]",
)


def test_train_then_evaluate_then_add_an_attack(command, tmp_path, capsys):
    command(cli.train)
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    (settings,) = (tmp_path / "run").rglob("config.yaml")
    assert "AdversarialTask" in settings.read_text()
    command(cli.evaluate, *ATTACK)
    (directory,) = (tmp_path / "run").glob("evaluation-*")
    lines = (directory / "records" / "rank000.jsonl").read_text().splitlines()
    assert len(lines) == 3 * (1 + 2)  # clean and two radii of three images
    assert "mIoU^D" in capsys.readouterr().out

    both = json.loads(ATTACK[1]) | {"fgsm": {"class_path": "segrobust.attacks.FGSM"}}
    command(cli.evaluate, "--attacks", json.dumps(both), "--eps", "[0.01, 0.02]")
    more = (directory / "records" / "rank000.jsonl").read_text().splitlines()
    assert more[: len(lines)] == lines
    assert len(more) == len(lines) + 3 * 2
    assert list(directory.rglob("*.png"))
    assert json.loads((directory / "summary.json").read_text())


def test_a_run_is_continued_and_never_overwritten(command, tmp_path, capsys):
    assert "nothing to resume" in refused(command, cli.train, "--resume", "true", capsys=capsys)
    command(cli.train)
    first = (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns
    assert "holds a run" in refused(command, cli.train, capsys=capsys)
    assert (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns == first
    more = ("--resume", "true", "--trainer.max_epochs", "2")
    assert "planned for 2 optimiser steps, and now has 4" in refused(command, cli.train, *more, capsys=capsys)
    assert (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns == first
    command(cli.train, "--resume", "true")  # nothing is left to do but to write the weights
    assert (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns > first


def test_resume_takes_the_newest_complete_checkpoint(command, tmp_path, capsys):
    settings = ("--trainer.max_epochs", "2", "--checkpoint.save_top_k", "-1", "--checkpoint.every_n_train_steps", "1")
    command(cli.train, *settings)
    folder, weights = tmp_path / "run" / "checkpoints", tmp_path / "run" / "weights.safetensors"
    whole = weights.read_bytes()
    steps = {f"epoch={(step - 1) // 2}-step={step}.ckpt" for step in (1, 2, 3, 4)}
    assert {path.name for path in folder.iterdir()} == steps | {"last.ckpt"}
    changed = bytearray((folder / "last.ckpt").read_bytes())
    changed[len(changed) // 2] ^= 1
    (folder / "last.ckpt").write_bytes(changed)
    os.truncate(folder / "epoch=1-step=4.ckpt", 900)
    (folder / "epoch=1-step=3.ckpt").unlink()
    capsys.readouterr()
    command(cli.train, "--resume", "true", *settings)
    lines = capsys.readouterr().out.splitlines()
    assert any("epoch=0-step=2.ckpt, epoch 0, step 2: the newest complete checkpoint" in line for line in lines)
    assert sum(line.startswith("warning  run/checkpoints/") and "it is not used" in line for line in lines) == 2
    assert weights.read_bytes() == whole

    for path in folder.iterdir():
        os.truncate(path, 900)
    message = refused(command, cli.train, "--resume", "true", *settings, capsys=capsys)
    assert "last.ckpt cannot be read: it is cut off" in message
    assert message.count("\n") == 1


def test_a_full_disk_ends_a_training_with_one_line(command, tmp_path, capsys):
    command(cli.train)
    (last,) = (tmp_path / "run").rglob("last.ckpt")
    with full_disk(last.stat().st_size - 200):
        message = refused(command, cli.train, "--run_dir", "full", capsys=capsys)
    assert "error: checkpoint" in message
    assert "cannot be written (File too large)" in message
    assert not list((tmp_path / "full" / "checkpoints").iterdir())


@pytest.mark.slow
def test_killed_training_continues_after_its_last_epoch(command, tmp_path):
    arguments = ["--trainer.max_epochs", "40"]
    train = [sys.executable, ROOT / "train.py", "--config", "experiment.yaml", "--run_dir", "run", *arguments]
    process = subprocess.Popen(train, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    reached = torch.load(checkpoint, weights_only=True)["epoch"]
    assert reached < 39
    command(cli.train, "--resume", "true", *arguments)
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    with (tmp_path / "run" / "logs" / "version_1" / "metrics.csv").open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert (min(epochs), max(epochs)) == (reached + 1, 39)
    assert (tmp_path / "run" / "logs" / "version_0").is_dir()


def test_runs_are_compared_and_reports_made_again(command, tmp_path, capsys, monkeypatch):
    command(cli.train)
    command(cli.evaluate, *ATTACK, "--max_images", "2")
    (first,) = (tmp_path / "run").glob("evaluation-*")
    command(cli.train, "--run_dir", "other", "--seed_everything", "1")
    command(cli.evaluate, *ATTACK, "--max_images", "2", "--run_dir", "other")
    (second,) = (tmp_path / "other").glob("evaluation-*")
    capsys.readouterr()

    summary = (first / "summary.json").read_bytes()
    (first / "summary.json").unlink()
    monkeypatch.setattr("sys.argv", ["evaluate.py", "report", str(first)])
    cli.evaluate()
    assert (first / "summary.json").read_bytes() == summary
    assert "fixed budget (linf)" in capsys.readouterr().out

    monkeypatch.setattr("sys.argv", ["evaluate.py", "compare", str(first), str(second), "--output", "page.html"])
    cli.evaluate()
    assert "page.html" in capsys.readouterr().out
    assert "</html>" in (tmp_path / "page.html").read_text()


def test_exit_status_tells_what_happened(command, tmp_path, capsys, monkeypatch):
    """0 in other tests; here a failed check under --strict, an image that cannot be read, and a signal."""
    command(cli.train)
    constant = torch.nn.Conv2d(3, 9, 3, padding=1)  # the same answer to every image: no gradient, never broken
    torch.nn.init.zeros_(constant.weight)
    wrapped = Normalized(constant)
    save_weights(wrapped, tmp_path / "constant.safetensors")
    arguments = (*ATTACK, "--checkpoint", "constant.safetensors", "--max_images", "1")
    command(cli.evaluate, *arguments)
    with pytest.raises(SystemExit) as stopped:
        command(cli.evaluate, *arguments, "--strict")
    assert stopped.value.code == 3
    assert "fail" in capsys.readouterr().out

    load, calls = SyntheticScenes.load, []

    def load_badly(self, index):
        if index == 1:
            raise OSError("image file is truncated")
        calls.append(index)
        return load(self, index)

    monkeypatch.setattr(SyntheticScenes, "load", load_badly)
    message = refused(command, cli.evaluate, *ATTACK, "--run_dir", "run", capsys=capsys)
    assert "image 1" in message
    with pytest.raises(SystemExit) as stopped:
        command(cli.evaluate, *ATTACK, "--run_dir", "run", "--skip_unreadable", "true")
    assert stopped.value.code == 1
    assert "image file is truncated" in capsys.readouterr().out


@pytest.mark.slow
def test_ctrl_c_ends_between_batches_and_the_same_command_goes_on(command, tmp_path, capsys):
    command(cli.train)
    attack = {"pgd": {"class_path": "segrobust.attacks.PGD", "init_args": {"num_steps": 300}}}
    arguments = ["--config", "experiment.yaml", "--run_dir", "run", "--attacks", json.dumps(attack), "--eps", "[0.01]"]
    job = subprocess.Popen(
        [sys.executable, ROOT / "evaluate.py", *arguments, "--checks", "off"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list((tmp_path / "run").glob("evaluation-*")):
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGINT)
    out, err = job.communicate()
    assert job.returncode == 130, err
    assert "stopping after this batch" in err
    assert "stopped by SIGINT" in out
    (directory,) = (tmp_path / "run").glob("evaluation-*")
    assert summarize_run(directory).missing > 0
    command(cli.evaluate, *arguments[4:], "--checks", "off")
    assert summarize_run(directory).missing == 0


def test_dry_run_estimates_and_writes_nothing(command, tmp_path, capsys):
    command(cli.train)
    command(cli.evaluate, "--dry-run", "--preset", "standard")
    assert "whole evaluation" in capsys.readouterr().out
    assert not list((tmp_path / "run").glob("evaluation-*"))


class TestBadInput:
    def test_unknown_key_is_named(self, command, tmp_path, capsys):
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text(yaml.safe_dump(experiment(clean_fracton=0.5)))
        assert "clean_fracton" in refused(command, cli.train, config=wrong, capsys=capsys)

    def test_no_weights(self, command, capsys):
        assert "weights.safetensors" in refused(command, cli.evaluate, *ATTACK, capsys=capsys)

    def test_no_data_of_the_split(self, command, capsys):
        command(cli.train)
        assert "no test data" in refused(command, cli.evaluate, *ATTACK, "--split", "test", capsys=capsys)

    def test_what_is_no_run(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("sys.argv", ["evaluate.py", "report", str(tmp_path)])
        with pytest.raises(SystemExit):
            cli.evaluate()
        assert "holds no run: there is no manifest.json" in capsys.readouterr().err
        monkeypatch.setattr("sys.argv", ["evaluate.py", "compare", str(tmp_path), str(tmp_path)])
        with pytest.raises(SystemExit):
            cli.evaluate()
        assert "at least two different runs" in capsys.readouterr().err

    @pytest.mark.parametrize(("key", "meant"), [("val/clean/mio", "val/clean/miou"), ("val/miou", "val/clean/miou")])
    def test_a_monitor_that_is_not_logged_is_refused_at_the_start(self, command, tmp_path, capsys, key, meant):
        message = refused(command, cli.train, "--checkpoint.monitor", key, capsys=capsys)
        assert f"ModelCheckpoint: nothing is logged as '{key}': did you mean {meant}?" in message
        assert not list(tmp_path.rglob("*.ckpt"))

    def test_a_monitor_of_robustness_that_is_not_measured(self, command, capsys):
        measured = {"attacks": json.loads(ATTACK[1]), "max_images": 1}
        callbacks = [
            {"class_path": "segrobust.callbacks.RobustnessEvaluation", "init_args": measured},
            {"class_path": "segrobust.callbacks.RobustStopping", "init_args": {"monitor": "val/pdg/miou_at_4"}},
        ]
        message = refused(command, cli.train, "--trainer.callbacks", json.dumps(callbacks), capsys=capsys)
        assert "did you mean 'val/pgd/miou_at_4'?" in message
        assert message.count("\n") == 1

    def test_html_page(self, command, tmp_path, capsys):
        (tmp_path / "page.ckpt").write_text("<!DOCTYPE html><html>sign in</html>")
        message = refused(command, cli.evaluate, *ATTACK, "--checkpoint", "page.ckpt", capsys=capsys)
        assert "HTML" in message

    def test_another_architecture(self, command, tmp_path, capsys):
        command(cli.train)
        other = experiment()
        other["model"]["init_args"]["network"] = conv(channels=5)
        path = tmp_path / "other.yaml"
        path.write_text(yaml.safe_dump(other))
        message = refused(command, cli.evaluate, *ATTACK, config=path, capsys=capsys)
        assert "another architecture" in message

    def test_radius_in_levels(self, command, capsys):
        command(cli.train)
        message = refused(command, cli.evaluate, *ATTACK[:2], "--eps", "[8]", capsys=capsys)
        assert "8/255 = 0.03137" in message

    def test_unwritable_run_folder(self, command, tmp_path, capsys):
        command(cli.train)
        (tmp_path / "file").write_text("in the way")
        message = refused(
            command,
            cli.evaluate,
            *ATTACK,
            "--run_dir",
            "file/run",
            "--checkpoint",
            "run/weights.safetensors",
            capsys=capsys,
        )
        assert "file" in message

    def test_missing_data_folder(self, command, tmp_path, capsys):
        other = experiment()
        other["data"]["init_args"]["val"] = {
            "class_path": "segrobust.data.CamVid",
            "init_args": {"root": str(tmp_path / "nowhere"), "split": "val"},
        }
        path = tmp_path / "other.yaml"
        path.write_text(yaml.safe_dump(other))
        assert "nowhere" in refused(command, cli.train, config=path, capsys=capsys)


@pytest.mark.slow
@pytest.mark.timeout(900)  # one to two minutes on two cores
def test_bare_evaluation_attacks_the_demo_network(tmp_path):
    run = subprocess.run(
        [sys.executable, ROOT / "evaluate.py"], cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
    )
    assert run.returncode == 0, run.stderr
    (directory,) = (tmp_path / "runs" / "demo").glob("evaluation-*")
    summary = json.loads((directory / "summary.json").read_text())
    assert summary
    pictures = sorted(directory.rglob("*.png"))
    assert pictures
    for picture in {pictures[0].parent, pictures[-1].parent}:
        assert picture.name in run.stdout
