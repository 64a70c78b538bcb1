"""Checkpoints on real disks: full ones, others than the temporary folder's, writers that are killed, changed files."""

import itertools
import multiprocessing
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch
from callbacks.tiny import make_trainer
from disks import full_disk
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from tasks.trainings import RECIPES, scenes, scenes_network, train

from segrobust.tasks import (
    AtomicCheckpointIO,
    CheckpointWriteError,
    DamagedCheckpointError,
    use_atomic_checkpoints,
)
from segrobust.tasks.checkpoint_files import newest_complete, require_complete

CONTENT = {"state_dict": {"weight": torch.arange(60_000.0)}, "optimizer_states": [], "loops": {}, "epoch": 1}


def save(path, step=4):
    AtomicCheckpointIO().save_checkpoint(CONTENT | {"global_step": step}, path)
    return path


def test_the_file_is_an_ordinary_checkpoint(tmp_path):
    path = save(tmp_path / "new" / "a.ckpt")
    for settings in ({}, {"mmap": True}):
        assert torch.equal(
            torch.load(path, weights_only=True, **settings)["state_dict"]["weight"], CONTENT["state_dict"]["weight"]
        )
    assert AtomicCheckpointIO().load_checkpoint(path, weights_only=True)["global_step"] == 4
    assert os.listdir(path.parent) == ["a.ckpt"]


def test_every_flipped_bit_is_found(tmp_path):
    path = save(tmp_path / "a.ckpt")
    whole = path.read_bytes()
    for position in (0, 40, 1000, len(whole) // 2, *range(len(whole) - 110, len(whole))):
        changed = bytearray(whole)
        changed[position] ^= 4
        path.write_bytes(changed)
        with pytest.raises(DamagedCheckpointError, match="damaged"):
            require_complete(path)
    path.write_bytes(whole)
    require_complete(path)


@pytest.mark.parametrize("share", [0, 0.3, 0.999])
def test_a_cut_file_is_found(tmp_path, share):
    path = save(tmp_path / "a.ckpt")
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(DamagedCheckpointError, match=r"a\.ckpt is damaged: it is empty or cut off \(\d+ bytes\)$"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_files_without_a_digest_are_known_by_their_checksums(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save(CONTENT | {"global_step": 4}, path)
    require_complete(path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    assert torch.load(path, weights_only=True)  # torch does not look
    with pytest.raises(DamagedCheckpointError, match=r"data/0 has changed"):
        require_complete(path)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    path = save(tmp_path / "a.ckpt")
    old = path.read_bytes()
    refusal = r"a\.ckpt cannot be written \(File too large\); a file of this name is as before"
    with full_disk(100_000), pytest.raises(CheckpointWriteError, match=refusal):
        save(path, step=5)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_the_newest_complete_checkpoint_is_taken(tmp_path):
    for step in (4, 8, 12, 16):
        save(tmp_path / f"{step}.ckpt", step=step)
    os.utime(tmp_path / "4.ckpt")  # a copy may be younger
    with (tmp_path / "16.ckpt").open("r+b") as file:
        file.seek(120_000)
        file.write(b"changed")
    os.truncate(tmp_path / "12.ckpt", 100)
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    torch.save(CONTENT | {"global_step": 3, "code": subprocess.run}, tmp_path / "code.ckpt")
    weights = {key: value for key, value in CONTENT.items() if key != "optimizer_states"}
    torch.save(weights | {"global_step": 40}, tmp_path / "weights.ckpt")
    choice = newest_complete(tmp_path.glob("*.ckpt"))
    assert (choice.path.name, choice.step, choice.epoch) == ("8.ckpt", 8, 1)
    faults = "\n".join(sorted(choice.passed_over))
    assert re.search(r"12\.ckpt cannot be read: it is cut off.*\n.*16\.ckpt is damaged", faults)
    assert "code.ckpt cannot be read: it needs code" in faults
    assert "foreign.ckpt is no checkpoint of a training" in faults
    assert "weights.ckpt holds weights alone" in faults
    (tmp_path / "8.ckpt").unlink()
    (tmp_path / "4.ckpt").unlink()
    with pytest.raises(DamagedCheckpointError, match=r"16\.ckpt is damaged"):
        newest_complete(tmp_path.glob("*.ckpt"))


def write_for_ever(path, versions):
    for step in itertools.count():
        AtomicCheckpointIO().save_checkpoint({"step": step, "weights": versions[step % 2]}, path)


def is_writing(folder):
    """Whether a temporary file is there, and holds something."""
    try:
        return any(path.stat().st_size for path in folder.glob(".*.tmp"))
    except FileNotFoundError:  # renamed meanwhile
        return False


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_kill_while_writing_leaves_a_complete_checkpoint():
    """On another file system than the temporary folder's; the kill comes while a temporary file grows."""
    versions = [torch.full((1_000_000,), float(number)) for number in range(2)]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "last.ckpt"
        for _ in range(3):
            path.unlink(missing_ok=True)
            writer = multiprocessing.get_context("fork").Process(target=write_for_ever, args=(path, versions))
            writer.start()
            while not (path.exists() and is_writing(path.parent)):
                assert writer.is_alive()
            writer.kill()
            writer.join()
            content = AtomicCheckpointIO().load_checkpoint(path)
            assert torch.equal(content["weights"], versions[content["step"] % 2])
        AtomicCheckpointIO().save_checkpoint({"step": 0}, path)  # and removes what the killed one left
        assert os.listdir(folder) == ["last.ckpt"]


def test_a_training_writes_and_resumes_such_checkpoints(tmp_path):
    whole, _ = train(tmp_path, "standard")
    seed_everything(7, workers=True, verbose=False)
    trainer = make_trainer(tmp_path, ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1), max_epochs=2)
    use_atomic_checkpoints(trainer)
    trainer.fit(RECIPES["standard"](scenes_network()), scenes())
    assert b"segrobust sha256" in (tmp_path / "epoch=0.ckpt").read_bytes()[-100:]
    resumed, _ = train(tmp_path, "standard", ckpt_path=str(tmp_path / "epoch=0.ckpt"))  # by Lightning's own plugin
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_another_plugin_of_the_trainer_stays(tmp_path):
    class Own(AtomicCheckpointIO):
        pass

    trainer = make_trainer(tmp_path, plugins=[Own()])
    use_atomic_checkpoints(trainer)
    assert type(trainer.strategy.checkpoint_io) is Own
