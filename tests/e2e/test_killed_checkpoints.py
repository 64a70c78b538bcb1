"""`segrobust train`, killed in a checkpoint or on a full disk, resumes to the weights of one that nothing disturbed."""

import os
import random
import re
import subprocess
import sys
import time

import pytest
import torch
import yaml
from e2e.test_cli import experiment
from odd_disk import odd_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OPTIONS = ("--trainer.max_epochs", "2", "--checkpoint.save_top_k", "-1", "--checkpoint.every_n_train_steps", "1")
NETWORK = """
from torch import nn


class Dropping(nn.Sequential):
    '''Its dropout needs the state of the random generator, and its optimiser has one of half a megabyte.'''

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 48, 3, padding=1), nn.Dropout(0.2), nn.Conv2d(48, 96, 3, padding=1), nn.Conv2d(96, 9, 1)
        )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of the experiment, and the run `whole`, which nothing disturbed."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "dropping.py").write_text(NETWORK)
    network = {
        "class_path": "segrobust.networks.Normalized",
        "init_args": {"network": {"class_path": "dropping.Dropping"}},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment(network=network)))
    said, status = ended(train(folder, folder / "whole"))
    assert status == 0, said
    return folder


def train(folder, run_dir, *more):
    """A process of the command."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    command = ["train", "--config", str(folder / "experiment.yaml"), "--run_dir", str(run_dir), *OPTIONS, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "segrobust", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def ended(process):
    """What a process printed, and its status."""
    return process.communicate()[0], process.returncode


def half_written(run_dir):
    return sorted((run_dir / "checkpoints").glob(".*.ckpt.*.tmp"))


def newest_step(run_dir):
    """Of the files that have their names, all of which must be whole."""
    files = (run_dir / "checkpoints").glob("*.ckpt")
    return max(torch.load(file, weights_only=True)["global_step"] for file in files)


def require_equal_end(folder, run_dir, step):
    """Resumes, which must begin at a step and end with the weights of the run that nothing disturbed."""
    said, status = ended(train(folder, run_dir, "--resume", "true"))
    assert status == 0, said
    assert re.search(rf"^resume .*\.ckpt, epoch \d, step {step}: the newest complete checkpoint$", said, re.MULTILINE)
    whole = (folder / "whole" / "weights.safetensors").read_bytes()
    assert (run_dir / "weights.safetensors").read_bytes() == whole
    assert not half_written(run_dir)


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8])
def test_a_training_that_is_killed_in_a_checkpoint(folder, tmp_path, number):
    """Each step writes two files, of which the first of the first step leaves nothing to resume from."""
    try:
        with odd_disk(tmp_path / "disk", "--slow", "0.02") as disk:
            process, seen = train(folder, disk / "run"), set()
            while len(seen) < number:
                assert process.poll() is None, ended(process)
                seen |= {path.name for path in half_written(disk / "run")}
            time.sleep(random.Random(number).uniform(0, 0.1))
            process.kill()
            process.communicate()
            (left,) = half_written(disk / "run")
            whole = max(path.stat().st_size for path in (folder / "whole" / "checkpoints").glob("*.ckpt"))
            assert left.stat().st_size < whole
            assert newest_step(disk / "run") == number // 2
            require_equal_end(folder, disk / "run", newest_step(disk / "run"))
    except OSError as error:
        pytest.skip(f"needs Linux, root and FUSE to mount a disk: {error}")


def test_a_disk_that_is_full_in_a_checkpoint(folder, tmp_path):
    """There is room for three and a half files, and later for all."""
    size = max(path.stat().st_size for path in (folder / "whole" / "checkpoints").glob("*.ckpt"))
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "disk", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs Linux and root to mount a disk: {done.stderr}")

    mount(f"size={int(3.5 * size)}")
    try:
        said, status = ended(train(folder, disk / "run"))
        assert status == 2, said
        (line,) = [line for line in said.splitlines() if "error: " in line]
        assert re.search(
            r"checkpoint .*\.ckpt cannot be written \(No space left on device\); a file of this name", line
        )
        assert not half_written(disk / "run")
        mount(f"remount,size={20 * size}")
        require_equal_end(folder, disk / "run", newest_step(disk / "run"))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
