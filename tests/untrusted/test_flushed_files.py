"""What takes a name is on the disk and reads as it was written before; what is too large is not read."""

import os
import struct
from pathlib import Path

import pytest
import torch

from segrobust.evaluation import AdversarialStore
from segrobust.evaluation.run.adversarial_images import StoredImageError
from segrobust.networks.atomic_files import replacing
from segrobust.tasks import AtomicCheckpointIO, CheckpointWriteError
from segrobust.untrusted.regular_files import replace_file


def through_replacing(path: Path) -> None:
    with replacing(path) as file:
        file.write(b"new")


@pytest.mark.parametrize("write", [lambda path: replace_file(path, b"new"), through_replacing])
def test_a_file_is_flushed_before_it_takes_its_name(tmp_path, monkeypatch, write):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    real, seen = os.fsync, []

    def fsync(descriptor: int) -> None:
        seen.append((path.read_bytes(), os.fstat(descriptor).st_size))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(path)
    assert seen[0] == (b"old", 3)
    assert path.read_bytes() == b"new"


def test_a_checkpoint_that_reads_as_something_else_does_not_replace_the_old_one(tmp_path, monkeypatch):
    path, content = tmp_path / "a.ckpt", {"state_dict": {"weight": torch.arange(9.0)}, "global_step": 1}
    AtomicCheckpointIO().save_checkpoint(content, path)
    old = path.read_bytes()

    def lose(descriptor: int) -> None:
        os.pwrite(descriptor, b"?", os.fstat(descriptor).st_size // 2)

    monkeypatch.setattr(os, "fsync", lose)
    with pytest.raises(CheckpointWriteError, match="what was written reads as something else"):
        AtomicCheckpointIO().save_checkpoint(content, path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_an_image_that_is_larger_than_the_clean_one_is_not_read(tmp_path):
    store = AdversarialStore(tmp_path)
    path = store.path("00ff", "min", 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    os.truncate(path, 10**8)
    with pytest.raises(StoredImageError, match="100000000 bytes; an image of this size has at most 4960"):
        store.load("00ff", "min", 0, (3, 8, 9))
