"""Files that are checkpoints, and files that are not."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from segrobust.networks import load_weights, read_metadata, save_weights


class RunsCode:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "HTML page, not a checkpoint: the download failed"),
        (b"\xef\xbb\xbf\n  <html></html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"", "is empty"),
        (b'{"weights": 1}', "damaged, truncated, or no checkpoint"),
        (b"PK\x03\x04rubbish", "damaged, truncated"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_that_are_no_checkpoint_are_named(tmp_path: Path, content: bytes, message: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    expected = "damaged or truncated safetensors" if "damaged" in message and suffix != ".pt" else message
    with pytest.raises(ValueError, match=expected):
        load_weights(nn.Conv2d(3, 2, 1), path)


def test_a_safetensors_file_may_begin_with_a_bracket(tmp_path: Path) -> None:
    weights = {"weight": torch.rand(2, 3, 1, 1), "bias": torch.rand(2)}
    entries = {"bias": ("F32", [2], [0, 8]), "weight": ("F32", [2, 3, 1, 1], [8, 32])}
    fields = ("dtype", "shape", "data_offsets")
    header = json.dumps({name: dict(zip(fields, entry, strict=True)) for name, entry in entries.items()}).encode()
    header = header.ljust(ord("<") + 256)
    data = b"".join(weights[name].numpy().tobytes() for name in ("bias", "weight"))
    path = tmp_path / "weights"
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    assert path.read_bytes().startswith(b"<")
    network = nn.Conv2d(3, 2, 1)
    load_weights(network, path)
    assert network.weight.equal(weights["weight"])


@pytest.mark.parametrize("kind", ["a.safetensors", "zip.pt", "legacy.pt"])
def test_truncated_files_are_named_at_every_length(tmp_path: Path, kind: str) -> None:
    path, network = tmp_path / kind, nn.Conv2d(1, 2, 1)
    if kind == "a.safetensors":
        save_weights(network, path)
    else:
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=kind == "zip.pt")
    content = path.read_bytes()
    for length in range(1, len(content) - 1, 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"damaged|refused"):
            load_weights(network, path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_needs_code_is_refused_and_runs_none(tmp_path: Path, zipped: bool) -> None:
    witness = tmp_path / "ran"
    content = {"state_dict": nn.Conv2d(3, 2, 1).state_dict(), "evil": RunsCode(witness)}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"refused: it names \w+\.mkdir") as caught:
        load_weights(nn.Conv2d(3, 2, 1), tmp_path / "a.ckpt")
    assert "weights_only" not in str(caught.value)
    assert not witness.exists()


@pytest.mark.filterwarnings("ignore:'torch.load' received", "ignore:`torch.jit")
def test_whole_networks_and_programs_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(3, 2, 1), tmp_path / "network.pt")
    with pytest.raises(ValueError, match=r"refused: it names torch\.nn\.modules\.conv\.Conv2d"):
        load_weights(nn.Conv2d(3, 2, 1), tmp_path / "network.pt")
    program = torch.jit.trace(nn.Conv2d(3, 2, 1), torch.rand(1, 3, 2, 2))
    torch.jit.save(program, tmp_path / "program.pt")
    with pytest.raises(ValueError, match="it names a TorchScript program"):
        load_weights(nn.Conv2d(3, 2, 1), tmp_path / "program.pt")


def test_metadata_is_in_safetensors_only(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="only these hold metadata"):
        read_metadata(tmp_path / "a.pt")
    (tmp_path / "b.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ValueError, match="damaged or truncated"):
        read_metadata(tmp_path / "b.safetensors")
