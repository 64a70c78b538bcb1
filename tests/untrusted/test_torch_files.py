"""Files of `torch.save` that would take more memory than they have bytes, before they are read."""

import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from segrobust.networks import load_weights
from segrobust.tasks.checkpoint_files import DamagedCheckpointError, newest_complete, require_complete
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.torch_files import require_modest_pickle

NETWORK = nn.Conv2d(3, 2, 1)
CHECKPOINT = {"state_dict": NETWORK.state_dict(), "global_step": 1, "epoch": 0, "loops": {}, "optimizer_states": []}
BYTES = b"\x80\x02c__builtin__\nbytearray\nJ" + struct.pack("<i", 2**31 - 1) + b"\x85R."


def rewritten(path, pickle=None, packed=(), repeated=()):
    """The checkpoint with another pickle, with entries that are compressed, or that are listed twice."""
    torch.save(CHECKPOINT, path)
    with zipfile.ZipFile(path) as archive:
        entries = {each.filename: archive.read(each) for each in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            content = pickle if pickle is not None and name.endswith("data.pkl") else content
            is_packed = any(name.endswith(each) for each in packed)
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED)
    return path


def overlapping(path):
    """All entries of the directory are the largest one, many times."""
    torch.save(CHECKPOINT | {"more": torch.zeros(10**5)}, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start, largest = archive.start_dir, max(archive.infolist(), key=lambda each: each.file_size)
    found = content.index(b"PK\x01\x02", start)
    while largest.filename.encode() not in content[found : found + 300].split(b"PK\x01\x02")[1]:
        found = content.index(b"PK\x01\x02", found + 4)
    end = content.find(b"PK\x01\x02", found + 4)
    entry = content[found : end if end > 0 else content.index(b"PK\x06\x06", found)]
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 50, 50, 50 * len(entry), start, 0)
    path.write_bytes(content[:start] + entry * 50 + tail)
    return path


HOSTILE = {
    "a byte array in an archive": (lambda path: rewritten(path, pickle=BYTES), r"names builtins\.bytearray"),
    "a byte array of an old file": (lambda path: path.write_bytes(BYTES) and path, r"names builtins\.bytearray"),
    "a compressed pickle": (lambda path: rewritten(path, packed=["data.pkl"]), r"data\.pkl' is compressed"),
    "a compressed tensor": (lambda path: rewritten(path, packed=["data/0"]), r"data/0' is compressed"),
    "entries that overlap": (overlapping, "50 entries state more bytes than the file has"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_grows_is_refused_by_every_reader(tmp_path: Path, name: str) -> None:
    make, message = HOSTILE[name]
    path = make(tmp_path / "a.ckpt")
    with pytest.raises(DataFault, match=message):
        require_modest_pickle(path)
    with pytest.raises(DataFault, match=message):
        load_weights(NETWORK, path)
    for read in (require_complete, lambda path: newest_complete([path])):
        with pytest.raises(DamagedCheckpointError, match=message):
            read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_writes_is_read(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(CHECKPOINT | {"text": "bytearray"}, path, _use_new_zipfile_serialization=zipped)
    require_modest_pickle(path)
    load_weights(NETWORK, path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.ckpt", "a.safetensors"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataFault, match="named pipe"):
            load_weights(NETWORK, tmp_path / name)


def test_a_tar_archive_is_refused_and_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataFault, match="is an archive of tar"):
        load_weights(NETWORK, path)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", ["sparse", "meta", "nested"])
def test_tensors_without_values_of_their_own_are_no_weights(tmp_path: Path, kind: str) -> None:
    full = torch.zeros(2, 3, 1, 1)
    weight = torch.nested.nested_tensor([full]) if kind == "nested" else full.to("meta")
    weight = full.to_sparse() if kind == "sparse" else weight
    torch.save({"weight": weight, "bias": torch.zeros(2)}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="weight") as caught:
        load_weights(NETWORK, tmp_path / "a.ckpt")
    assert str(caught.value).isprintable()


def test_names_of_weights_cannot_reach_a_terminal(tmp_path: Path) -> None:
    torch.save({"\x1b[2J\nweight": torch.zeros(2, 3, 1, 1)}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"begins with \\x1b\[2J\\nweight") as caught:
        load_weights(NETWORK, tmp_path / "a.ckpt")
    assert str(caught.value).isprintable()
