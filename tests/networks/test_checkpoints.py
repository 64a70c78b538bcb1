"""Weights in files, good and bad."""

import json
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch
from disks import full_disk
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segrobust.networks import FullResolution, Normalized, load_weights, read_metadata, save_weights, weights_digest


def make_network(seed: int = 0, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 2, 1))
    network(torch.rand(2, 3, 8, 8))
    return network


class Task(lightning.LightningModule):
    """A task as others write them: the network, an averaged copy, and a loss with a weight."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.save_hyperparameters({"rate": 0.1, "_instantiator": "os.system"})
        self.teacher = make_network(seed=9)
        self.network = network
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(2))

    def training_step(self, batch: Tensor) -> Tensor:
        return self.criterion(self.network(batch).mean((2, 3)), torch.zeros(len(batch)).long())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def assert_same(network: nn.Module, other: nn.Module) -> None:
    state, expected = network.state_dict(), other.state_dict()
    assert list(state) == list(expected)
    for name, weight in state.items():
        assert weight.equal(expected[name]), name


def fit_checkpoint(task: Task, path: Path) -> None:
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, default_root_dir=path.parent,
    )  # fmt: skip
    trainer.fit(task, torch.utils.data.DataLoader([torch.rand(3, 8, 8) for _ in range(2)], batch_size=2))
    trainer.save_checkpoint(path)


def test_weights_and_metadata_survive(tmp_path: Path) -> None:
    network, other = make_network(0), make_network(1)
    metadata = {"names": json.dumps(["road", "sky"]), "note": "caf\u00e9"}
    save_weights(network, tmp_path / "a.safetensors", metadata=metadata)
    load_weights(other, tmp_path / "a.safetensors")
    assert_same(other, network)
    assert read_metadata(tmp_path / "a.safetensors") == metadata
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_without_metadata_there_is_none(tmp_path: Path) -> None:
    save_weights(make_network(), tmp_path / "a.safetensors")
    assert read_metadata(tmp_path / "a.safetensors") == {}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("container", ["", "state_dict", "model"])
def test_pickled_state_dicts_are_read(tmp_path: Path, container: str, zipped: bool) -> None:
    network, other = make_network(0), make_network(1)
    content = {container: network.state_dict(), "epoch": 3} if container else network.state_dict()
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    load_weights(other, tmp_path / "a.pth")
    assert_same(other, network)


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bare": lambda network: network,
    "data parallel": lambda network: nn.DataParallel(network),
    "compiled": lambda network: torch.compile(network),
    "compiled part": lambda network: Normalized(torch.compile(network)),
    "normalised": lambda network: FullResolution(Normalized(network)),
    "all": lambda network: torch.compile(nn.DataParallel(Normalized(torch.compile(network)))),
}


@pytest.mark.parametrize("source", WRAPPERS)
@pytest.mark.parametrize("target", WRAPPERS)
def test_wrappers_do_not_matter(tmp_path: Path, source: str, target: str) -> None:
    network, other = make_network(0), make_network(1)
    torch.save(WRAPPERS[source](network).state_dict(), tmp_path / "a.pt")
    load_weights(WRAPPERS[target](other), tmp_path / "a.pt")
    assert_same(other, network)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_stay_out_of_the_file_and_the_digest(tmp_path: Path, wrapper: str) -> None:
    network = make_network()
    save_weights(WRAPPERS[wrapper](network), tmp_path / "a.safetensors")
    assert set(load_file(tmp_path / "a.safetensors")) == set(network.state_dict())
    assert weights_digest(WRAPPERS[wrapper](network)) == weights_digest(network)


def test_a_lightning_checkpoint_gives_its_network(tmp_path: Path) -> None:
    task = Task(Normalized(make_network(0)))
    fit_checkpoint(task, tmp_path / "last.ckpt")
    bare, teacher, wrapped = make_network(1), make_network(2), Normalized(make_network(3))
    with pytest.raises(ValueError, match="several copies"):
        load_weights(bare, tmp_path / "last.ckpt")
    load_weights(bare, tmp_path / "last.ckpt", part="state_dict.network")
    load_weights(wrapped, tmp_path / "last.ckpt", part="network")
    load_weights(teacher, tmp_path / "last.ckpt", part="teacher")
    assert_same(bare, task.network.network)
    assert_same(wrapped, task.network)
    assert_same(teacher, task.teacher)


def test_a_network_with_a_part_called_model_is_loaded_whole(tmp_path: Path) -> None:
    network, other = (nn.ModuleDict({"model": make_network(s), "head": make_network(s + 5)}) for s in (0, 1))
    torch.save({"state_dict": network.state_dict()}, tmp_path / "a.ckpt")
    load_weights(other, tmp_path / "a.ckpt")
    assert_same(other, network)


def test_tied_and_strided_weights_are_stored(tmp_path: Path) -> None:
    network, other = make_network(0), make_network(1)
    network.add_module("tied", network[0])
    other.add_module("tied", other[0])
    network.to(memory_format=torch.channels_last)
    save_weights(network, tmp_path / "a.safetensors")
    load_weights(other, tmp_path / "a.safetensors")
    assert_same(other, network)


def test_half_precision_is_cast_back(tmp_path: Path) -> None:
    network, other = make_network(0), make_network(1)
    halved = {name: w.half() if w.is_floating_point() else w for name, w in network.state_dict().items()}
    save_file(halved, tmp_path / "a.safetensors")
    load_weights(other, tmp_path / "a.safetensors")
    for name, weight in other.state_dict().items():
        original = network.state_dict()[name]
        assert weight.dtype == original.dtype
        assert weight.equal(original.half().to(original.dtype))
    load_weights(other.double(), tmp_path / "a.safetensors")
    assert other[0].weight.dtype == torch.float64


def test_another_architecture_is_listed_and_nothing_is_copied(tmp_path: Path) -> None:
    save_weights(make_network(0, width=6), tmp_path / "a.safetensors")
    network = nn.ModuleDict({"0": nn.Conv2d(3, 4, 3), "1": nn.BatchNorm2d(4), "extra": nn.Conv2d(4, 2, 1)})
    before = weights_digest(network)
    with pytest.raises(ValueError, match="another architecture") as caught:
        load_weights(network, tmp_path / "a.safetensors")
    message = str(caught.value)
    assert "the nearest fit is '.', where 1 fit; the file begins with" in message
    assert "the network with 0.weight, 0.bias, 1.weight)" in message
    assert "2 missing: extra.weight, extra.bias;" in message
    assert "2 unexpected: 2.bias, 2.weight;" in message
    assert "6 of another shape" in message
    assert "0.weight (6, 3, 3, 3) for (4, 3, 3, 3)" in message
    assert message.endswith(", ...")
    assert weights_digest(network) == before


def test_integers_do_not_become_weights(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2, 3, 1, 1, dtype=torch.int8), "bias": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="1 of another shape or kind"):
        load_weights(nn.Conv2d(3, 2, 1), tmp_path / "a.safetensors")


def test_other_content_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"holds no state dict: {'0': 'int'"):
        load_weights(make_network(), tmp_path / "list.pt")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "numbers.pt")
    with pytest.raises(ValueError, match=r"'epoch': 'int'.*training checkpoint"):
        load_weights(make_network(), tmp_path / "numbers.pt")
    torch.save({}, tmp_path / "empty.pt")
    with pytest.raises(ValueError, match="it is empty"):
        load_weights(make_network(), tmp_path / "empty.pt")
    with pytest.raises(FileNotFoundError):
        load_weights(make_network(), tmp_path / "nowhere.pt")


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    """safetensors itself writes metadata in random order."""
    metadata = {f"key {number} \u00e9 \x7f": str(number) for number in range(8)}
    for name, order in (("a", 1), ("b", 1), ("c", -1), ("d", -1)):
        save_weights(make_network(0), tmp_path / name, metadata=dict(list(metadata.items())[::order]))
    (content,) = {(tmp_path / name).read_bytes() for name in "abcd"}
    (tmp_path / "a.safetensors").write_bytes(content)
    assert read_metadata(tmp_path / "a.safetensors") == metadata
    other = make_network(1)
    load_weights(other, tmp_path / "a.safetensors")
    assert weights_digest(other) == weights_digest(make_network(0))
    assert int.from_bytes(content[:8], "little") % 8 == 0


def test_metadata_is_text(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"'epoch': 3.*json\.dumps"):
        save_weights(make_network(), tmp_path / "a.safetensors", metadata={"epoch": 3})


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(make_network(0), path)
    old = path.read_bytes()

    with full_disk(len(old) // 2), pytest.raises(OSError, match=r"too large: '.*/a\.safetensors'"):
        save_weights(make_network(1), path)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(FileNotFoundError, match="no folder"):
        save_weights(make_network(), tmp_path / "missing" / "a.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network[0].weight.data[0, 0, 0, 0].add_(1e-6),
        lambda network: network[1].running_mean.add_(1),
        lambda network: network[1].num_batches_tracked.add_(1),
        lambda network: network[0].half(),
        lambda network: setattr(network[0].weight, "data", network[0].weight.data.reshape(3, 4, 3, 3)),
        lambda network: network.register_buffer("extra", torch.empty(0)),
    ],
)
def test_digest_sees_every_change(change: Callable[[nn.Module], object]) -> None:
    network, changed = make_network(), make_network()
    assert weights_digest(network) == weights_digest(changed)
    change(changed)
    assert weights_digest(network) != weights_digest(changed)


def test_digest_is_that_of_the_values(tmp_path: Path) -> None:
    network, other = make_network(0).to(memory_format=torch.channels_last), make_network(1)
    save_weights(network, tmp_path / "a.safetensors")
    load_weights(other, tmp_path / "a.safetensors")
    assert weights_digest(network) == weights_digest(other.train().requires_grad_(False))
    assert len(weights_digest(network.bfloat16())) == 64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_digest_is_the_same_on_a_gpu() -> None:
    network = make_network()
    assert weights_digest(network) == weights_digest(make_network().cuda())
