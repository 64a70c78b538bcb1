"""Checkpoints as trainings write them: which weights are taken, and what is refused."""

import argparse
import bz2
import gzip
import json
import lzma
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from segrobust.networks import Normalized, load_weights, read_record, weights_digest

State = dict[str, Tensor]


def make_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


RIGHT, OTHER = make_network(0).state_dict(), make_network(1).state_dict()


def put(prefix: str, state: State) -> State:
    return {prefix + name: weight for name, weight in state.items()}


def without(ending: str, state: State) -> State:
    return {name: weight for name, weight in state.items() if not name.endswith(ending)}


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def averaged() -> State:
    """As `torch.optim.swa_utils` writes it: under `module.`, beside the number of averaged networks."""
    return AveragedModel(make_network(0)).state_dict()


OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(4, 3, 3, 3)}}, "param_groups": [{"lr": 0.1}]}

READ: dict[str, tuple[object, str]] = {
    "bare": (RIGHT, "9 tensors of the file itself"),
    "model_state_dict": ({"model_state_dict": RIGHT, "epoch": 3, "optimizer": OPTIMIZER}, "entry 'model_state_dict'"),
    "model_state": ({"model_state": RIGHT}, "entry 'model_state'"),
    "net": ({"net": RIGHT, "acc": 3.0}, "entry 'net'"),
    "params, and an equal average": (
        {"params": RIGHT, "params_ema": RIGHT},
        "entry 'params'; left out: params_ema (9)",
    ),
    "DeepSpeed": ({"module": RIGHT, "ds_version": "1"}, "entry 'module'"),
    "Lightning, segmentor": ({"state_dict": put("segmentor.", RIGHT)}, "without the prefix 'segmentor.'"),
    "Lightning, backbone": ({"state_dict": put("backbone.", RIGHT)}, "without the prefix 'backbone.'"),
    "Lightning, compiled, beside a loss": (
        {"state_dict": put("model._orig_mod.", RIGHT) | {"criterion.weight": torch.ones(2)}},
        "without the prefix 'model.'; left out: state_dict.criterion (1)",
    ),
    "Lightning, hyper-parameters a Namespace": (
        {"state_dict": RIGHT, "hyper_parameters": argparse.Namespace(lr=1, root=Path("/x"))},
        "entry 'state_dict'",
    ),
    "Lightning, hyper-parameters with a Path": (
        {"state_dict": RIGHT, "hyper_parameters": {"root": Path("/x")}},
        "entry 'state_dict'",
    ),
    "best score of numpy": ({"state_dict": RIGHT, "best": np.float64(0.3), "all": np.ones(3)}, "entry 'state_dict'"),
    "PyTorch 0.3": (without("num_batches_tracked", RIGHT), "1 counters num_batches_tracked are not in it"),
    "Lightning's averages, raw weights to resume": (
        {"state_dict": put("network.", RIGHT), "current_model_state": put("network.", OTHER)},
        "9 tensors of entry 'state_dict'",
    ),
    "averages alone": ({"ema": averaged()}, "entry 'ema' without the prefix 'module.'; left out: ema.n_averaged (1)"),
    "two levels": ({"checkpoint": {"model": {"weights": RIGHT}}}, "entry 'checkpoint.model.weights'"),
    "FSDP": (put("_fsdp_wrapped_module.", RIGHT), "9 tensors of the file itself"),
    "a generator's larger opponent beside the usual name": (
        {"state_dict": put("net.", RIGHT) | {f"opponent.{i}": torch.ones(1) for i in range(20)}},
        "without the prefix 'net.'; left out: state_dict.opponent (20)",
    ),
}
"""Content of a file, and a part of the line about it."""


@pytest.mark.parametrize("wrap", [lambda network: network, Normalized], ids=["bare", "wrapped"])
@pytest.mark.parametrize("kind", READ)
def test_weights_are_found_wherever_they_are(tmp_path: Path, kind: str, wrap: Callable[[nn.Module], nn.Module]) -> None:
    content, line = READ[kind]
    network = make_network(9)
    network[1].num_batches_tracked += 5
    loaded = load_weights(wrap(network), save(content, tmp_path / "a.pth"))
    for name, weight in network.state_dict().items():
        assert weight.equal(RIGHT[name]), name
    expected = len(RIGHT) - len(loaded.reset)
    assert loaded.num_tensors == expected
    assert line.replace("9 tensors", f"{expected} tensors") in str(loaded)


COPIES: dict[str, tuple[object, dict[str, State]]] = {
    "timm": (
        {"state_dict": OTHER, "state_dict_ema": put("module.", RIGHT)},
        {"state_dict": OTHER, "state_dict_ema": RIGHT},
    ),
    "Lightning": (
        {"state_dict": put("model.", OTHER) | put("ema_model.", RIGHT)},
        {"state_dict.model": OTHER, "ema_model": RIGHT},
    ),
    "student and teacher": (
        {"state_dict": put("student.", RIGHT) | put("teacher.", OTHER)},
        {"student": RIGHT, "state_dict.teacher": OTHER},
    ),
    "the usual name and a teacher": (
        {"state_dict": put("network.", RIGHT) | put("teacher.", OTHER)},
        {"network": RIGHT, "teacher": OTHER},
    ),
    "raw without a prefix": (RIGHT | put("ema.", OTHER), {"ema": OTHER}),
    "averages in a callback": (
        {"state_dict": RIGHT, "callbacks": {"SWA": {"average_model_state": OTHER}}},
        {"state_dict": RIGHT, "average_model_state": OTHER},
    ),
    "averages of parameters alone": (
        {"model": RIGHT, "ema": without("running_mean", without("running_var", OTHER))},
        {"model": RIGHT},
    ),
    "averages as a list": ({"model": RIGHT, "ema": {"shadow_params": list(OTHER.values())}}, {"model": RIGHT}),
    "averages under names without dots": (
        put("model.", RIGHT) | {f"model_ema.{name.replace('.', '')}": weight for name, weight in OTHER.items()},
        {"model": RIGHT},
    ),
    "a part of a larger network": (
        put("encoder.", RIGHT) | put("decoder.a.", put("b.", OTHER | {"x": torch.ones(1)})),
        {"encoder": RIGHT, "decoder": OTHER},
    ),
}
"""Content of a file, and the weights by the part that names them."""


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_must_be_chosen(tmp_path: Path, kind: str) -> None:
    content, choices = COPIES[kind]
    path, network = save(content, tmp_path / "a.pth"), make_network(9)
    before = weights_digest(network)
    with pytest.raises(ValueError, match=r"load_weights\(network, path, part='") as caught:
        load_weights(network, path)
    assert weights_digest(network) == before
    assert "--checkpoint_part" in str(caught.value)
    for part, expected in choices.items():
        assert part in str(caught.value)
        if kind == "a part of a larger network" and part == "decoder":
            continue
        load_weights(network, path, part=part)
        for name, weight in network.state_dict().items():
            assert weight.equal(expected[name]), name


def test_most_of_a_file_is_not_left_out_in_silence(tmp_path: Path) -> None:
    content = put("stem.", RIGHT) | {f"body.{i}": torch.ones(1) for i in range(10)}
    path, network = save(content, tmp_path / "a.pth"), make_network(9)
    with pytest.raises(ValueError, match=r"10 other tensors beside the 9 of 'stem'.*part='stem'"):
        load_weights(network, path)
    assert load_weights(network, path, part="stem").left_out == ("body (10)",)


def test_a_part_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = save({"state_dict": put("model.", RIGHT)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"has no part 'ema' with weights of this network; it has 'state_dict.model'"):
        load_weights(make_network(), path, part="ema")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ema": without("running_mean", RIGHT)}, r"nearest fit is 'ema'.* 1 missing: 1\.running_mean"),
        (put("model.", RIGHT) | {"model.aux.weight": torch.ones(1)}, r"'model'.*: 1 unexpected: aux\.weight"),
        (
            {"state_dict": put("net.", RIGHT | {"2.weight": torch.ones(5, 4, 1, 1)})},
            r"fit is 'state_dict.net', where 8 fit; the file begins with 0.weight.*2.weight \(5, 4, 1, 1\) for \(2, 4,",
        ),
        ({"model": argparse.Namespace(a=1)}, r"'model': 'argparse.Namespace'.*state_dict\(\)"),
        ({"optimizer": {"w": RIGHT}, "epoch": 3}, r"resumes a training \(optimizer\), but no weights"),
    ],
)
def test_what_does_not_fit_is_described(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_weights(make_network(9), save(content, tmp_path / "a.pth"))


def write_shards(folder: Path, format: str) -> Path:
    """As `save_pretrained(max_shard_size=...)` of transformers writes them."""
    names = list(RIGHT)
    stem, ending = ("model", "safetensors") if format == "safetensors" else ("pytorch_model", "bin")
    files = [f"{stem}-0000{i}-of-00002.{ending}" for i in (1, 2)]
    for file, part in zip(files, (names[:3], names[3:]), strict=True):
        shard = {name: RIGHT[name] for name in part}
        if ending == "bin":
            torch.save(shard, folder / file)
        else:
            save_file(shard, folder / file, metadata={"format": "pt"})
    listed = {name: files[i >= 3] for i, name in enumerate(names)}
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
    return index


@pytest.mark.parametrize("format", ["safetensors", "bin"])
def test_shards_are_read_together(tmp_path: Path, format: str) -> None:
    index = write_shards(tmp_path, format)
    for path in (tmp_path, index):
        network = make_network(9)
        load_weights(network, path)
        assert network[2].weight.equal(RIGHT["2.weight"])
        assert network[0].weight.equal(RIGHT["0.weight"])
        assert read_record(path).version is None


def test_damaged_indices_are_refused(tmp_path: Path) -> None:
    index = write_shards(tmp_path, "bin")
    (tmp_path / "pytorch_model-00002-of-00002.bin").rename(tmp_path / "kept")
    with pytest.raises(FileNotFoundError, match=r"1 are missing: pytorch_model-00002-of-00002.bin"):
        load_weights(make_network(), tmp_path)
    torch.save({}, tmp_path / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(ValueError, match=r"lacks 6 tensors that pytorch_model.bin.index.json lists: 1.bias"):
        load_weights(make_network(), tmp_path)
    for outside in ("../kept", "/etc/passwd", 3):
        index.write_text(json.dumps({"weight_map": {"0.weight": outside}}))
        with pytest.raises(ValueError, match=r"names the shard.*expected the name of a file in its folder"):
            load_weights(make_network(), tmp_path)
    index.write_text("[]")
    with pytest.raises(ValueError, match="no index of shards"):
        load_weights(make_network(), tmp_path)


def test_a_folder_of_one_file_is_that_file(tmp_path: Path) -> None:
    save(RIGHT, tmp_path / "last.ckpt")
    network = make_network(9)
    load_weights(network, tmp_path)
    assert network[0].weight.equal(RIGHT["0.weight"])
    save(RIGHT, tmp_path / "best.ckpt")
    with pytest.raises(ValueError, match=r"several files of weights; name one: .*best\.ckpt, .*last\.ckpt"):
        load_weights(network, tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["zero_to_fp32.py", "latest"], r"DeepSpeed.*python \S+zero_to_fp32.py"),
        (["meta.pt", ".metadata", "__0_0.distcp"], "consolidate_checkpoint"),
        ([".metadata", "__0_0.distcp"], "dcp_to_torch"),
        (["notes.txt"], "without a file of weights"),
    ],
)
def test_folders_of_distributed_trainings_name_the_command(tmp_path: Path, files: list[str], message: str) -> None:
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(ValueError, match=message):
        load_weights(make_network(), tmp_path)
    with pytest.raises(ValueError, match=message):
        read_record(tmp_path)


def test_objects_beside_the_weights_are_not_made(tmp_path: Path) -> None:
    made: list[Any] = []

    class Made:
        def __setstate__(self, state: object) -> None:
            made.append(state)

    Made.__qualname__ = "Made"
    globals()["Made"] = Made
    thing = Made()
    thing.value = 1  # type: ignore[attr-defined]
    load_weights(make_network(9), save({"state_dict": RIGHT, "config": thing}, tmp_path / "a.pth"))
    assert not made


class Entries(OrderedDict[str, Any]):
    """A dictionary as packages of configurations write it."""


class Plain(dict[str, Any]):
    """Another."""


@pytest.mark.parametrize("kind", [Entries, Plain])
def test_subclasses_of_dict_are_read_as_dictionaries(tmp_path: Path, kind: type) -> None:
    network, other = make_network(0), make_network(1)
    weights = network.state_dict()
    for content in (kind(weights), {"model": kind(weights), "args": kind(lr=1)}, kind(state_dict=dict(weights))):
        torch.save(content, tmp_path / "weights.pth")
        assert load_weights(other, tmp_path / "weights.pth").num_tensors == len(weights)
        assert weights_digest(network) == weights_digest(other)
        other = make_network(1)


class Tied(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.second.weight = self.first.weight


@pytest.mark.parametrize("name", ["first.weight", "second.weight"])
def test_a_tied_weight_may_be_stored_once(tmp_path: Path, name: str) -> None:
    network, other = Tied(0), Tied(1)
    weights = {key: value.clone() for key, value in network.state_dict().items() if key != name}
    save_file(weights, tmp_path / "model.safetensors")
    load_weights(other, tmp_path / "model.safetensors")
    assert weights_digest(network) == weights_digest(other)
    assert other.first.weight is other.second.weight


def test_tied_weights_with_two_values_are_refused(tmp_path: Path) -> None:
    weights = {key: value.clone() for key, value in Tied(0).state_dict().items()}
    save_file(weights | {"second.weight": weights["second.weight"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"different values for first.weight, second.weight.*one parameter"):
        load_weights(Tied(1), tmp_path / "model.safetensors")


def write_tar(content: bytes, path: Path) -> None:
    (path.parent / "inside.pth").write_bytes(content)
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "inside.pth")


def write_zip(content: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside.pth", content)


FOREIGN: dict[str, tuple[Callable[[bytes, Path], object], str]] = {
    "gzip": (lambda content, path: path.write_bytes(gzip.compress(content)), "compressed by gzip; unpack it"),
    "bzip2": (lambda content, path: path.write_bytes(bz2.compress(content)), "compressed by bzip2; unpack it"),
    "xz": (lambda content, path: path.write_bytes(lzma.compress(content)), "compressed by xz; unpack it"),
    "tar": (write_tar, "archive of tar; unpack it first"),
    "zip": (write_zip, r"archive of zip; unpack it first.*inside\.pth"),
    "pickle": (lambda content, path: path.write_bytes(pickle.dumps({"a": np.zeros(3)})), "pickle that torch did not"),
    "HDF5": (lambda content, path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + content), "HDF5, as of Keras"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_kind_is_named(tmp_path: Path, kind: str) -> None:
    write, message = FOREIGN[kind]
    write(save(RIGHT, tmp_path / "right.pth").read_bytes(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=rf"weights\.pth is .*{message}"):
        load_weights(make_network(1), tmp_path / "weights.pth")


def test_arrays_of_numpy_are_named(tmp_path: Path) -> None:
    arrays = {name: weight.numpy() for name, weight in RIGHT.items()}
    np.savez(tmp_path / "weights.npz", **arrays)
    for path in (tmp_path / "weights.npz", save({"model": arrays}, tmp_path / "weights.pth")):
        with pytest.raises(ValueError, match=r"torch\.from_numpy"):
            load_weights(make_network(1), path)


def test_a_list_or_tuple_is_read_by_position(tmp_path: Path) -> None:
    for content in ([RIGHT, 3], (RIGHT, OPTIMIZER), [argparse.Namespace(), RIGHT]):
        network = make_network(1)
        load_weights(network, save(content, tmp_path / "weights.pth"))
        assert weights_digest(network) == weights_digest(make_network(0))


CAUSES: dict[str, tuple[State, str]] = {
    "classes": (
        RIGHT | {"2.weight": torch.zeros(5, 4, 1, 1), "2.bias": torch.zeros(5)},
        r"the file is of 5 classes, it seems, and the network of 2: .*ClassOrder",
    ),
    "heads for training": (RIGHT | {"aux.weight": torch.zeros(2)}, "1 unexpected: aux.weight; make the network with"),
    "LoRA": (
        put("base.", without("2.weight", RIGHT)) | {"base.2.lora_A.weight": torch.zeros(2)},
        "weights of LoRA: merge them",
    ),
}


@pytest.mark.parametrize("kind", CAUSES)
def test_the_cause_of_a_difference_is_named(tmp_path: Path, kind: str) -> None:
    state, message = CAUSES[kind]
    with pytest.raises(ValueError, match=message):
        load_weights(make_network(1), save(state, tmp_path / "weights.pth"))


def test_one_of_several_shards_is_named(tmp_path: Path) -> None:
    part = {name: weight.clone() for name, weight in RIGHT.items() if name.startswith("0.")}
    save_file(part, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(ValueError, match="one of several shards: name their folder, or the index"):
        load_weights(make_network(1), tmp_path / "model-00001-of-00002.safetensors")


@pytest.mark.parametrize(
    ("value", "dtype"), [(torch.nan, torch.float32), (torch.inf, torch.float16), (1e300, torch.float64)]
)
def test_values_that_are_not_finite_are_refused_with_file_and_key(
    tmp_path: Path, value: float, dtype: torch.dtype
) -> None:
    network = nn.Conv2d(3, 2, 1)
    before = network.weight.detach().clone()
    state = {name: weight.to(dtype) for name, weight in nn.Conv2d(3, 2, 1).state_dict().items()}
    state["weight"].flatten()[:2] = value
    torch.save({"model": {f"module.{name}": weight for name, weight in state.items()}}, tmp_path / "last.pth")
    with pytest.raises(ValueError, match=r"last\.pth holds .* NaN or infinite: module\.weight \(2 of 6 values\);"):
        load_weights(network, tmp_path / "last.pth")
    assert torch.equal(network.weight, before)
