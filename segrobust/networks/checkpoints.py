"""Weights of networks: taken from files and checked, written atomically, known by a digest."""

import hashlib
import json
import os
import struct
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from segrobust.networks.atomic_files import replacing
from segrobust.networks.weight_files import read_content

T = TypeVar("T")

WRAPPERS = ("_orig_mod.", "module.", "network.")
"""What `torch.compile`, data parallelism and the wrappers of this package put before the names of the weights."""

DEFAULT_PREFIXES = (*WRAPPERS, "model.", "net.")
"""Wrappers, and the names under which a LightningModule usually holds its network."""

_CONTAINERS = ("state_dict", "model")
"""Entries of a training checkpoint that hold the weights: Lightning and mmengine, torchvision."""

_SHOWN = 5


def load_weights(
    network: nn.Module, path: str | os.PathLike[str], *, prefixes: Sequence[str] = DEFAULT_PREFIXES
) -> None:
    """Copies the weights of a file into a network, all or nothing.

    The file is safetensors, or a pickle of torch that needs no code: a state dict, or a training checkpoint that holds
    one (Lightning's `state_dict`). Where a training checkpoint holds more than the network, the weights under the first
    of `prefixes` that occurs are taken. A prefix common to all names is stripped, in the file and in the network alike,
    so that weights move between bare, wrapped, compiled and parallel networks. Every parameter and persistent buffer
    must be there in the network's shape; floating-point values are cast to the network's dtype.

    Args:
        network: takes the weights, in place, on its device.
        path: the file.
        prefixes: prefixes to select and to strip; `("teacher.", *DEFAULT_PREFIXES)` takes the teacher's weights.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is no checkpoint (an HTML page, a Git LFS pointer, truncated), needs code to be read, or
            holds the weights of another architecture.
    """
    path = Path(path)
    own = network.state_dict()
    names = dict(zip(_strip(own, prefixes), own, strict=True))
    stored = _read_weights(path, names, prefixes)
    differences = describe_differences({short: own[name] for short, name in names.items()}, stored)
    if differences:
        raise ValueError(
            f"{path} holds the weights of another architecture "
            f"({len(stored)} tensors, the network has {len(own)}): {differences}"
        )
    network.load_state_dict({name: stored[short] for short, name in names.items()})


def save_weights(
    network: nn.Module, path: str | os.PathLike[str], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes parameters and persistent buffers as safetensors, by a temporary file that replaces `path` when complete.

    Equal weights and metadata give equal bytes.

    Args:
        network: its wrappers are left out of the names.
        path: the file; its folder must exist.
        metadata: text kept beside the weights, for `read_metadata`.

    Raises:
        OSError: the folder does not exist or cannot be written.
        TypeError: metadata that is not text, or state that is no tensor.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    foreign = {key: value for key, value in (metadata or {}).items() if not isinstance(value, str)}
    if foreign:
        raise TypeError(
            f"metadata must map text to text, got {foreign}; turn values into text, for example by json.dumps"
        )
    # Cloned, because safetensors refuses tensors that share memory, as tied weights do.
    tensors = {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in _weights(network).items()
    }
    content = save(tensors, metadata=dict(metadata or {}))
    with replacing(path) as file:
        header, start = _sorted_header(content)
        file.write(header)
        file.write(memoryview(content)[start:])


def weights_digest(network: nn.Module) -> str:
    """Gives the SHA-256 (hex) of the names, dtypes, shapes and bytes of parameters and persistent buffers.

    The same on every device, and with or without wrappers (`WRAPPERS`).
    """
    digest = hashlib.sha256()
    for name, weight in sorted(_weights(network).items()):
        digest.update(json.dumps([name, str(weight.dtype), list(weight.shape)]).encode() + b"\n")
        digest.update(weight.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _strip(weights: Mapping[str, T], prefixes: Iterable[str]) -> dict[str, T]:
    """Drops prefixes that all names share, repeatedly, and the marks of compiled sub-modules; keeps the order."""
    weights = {name.replace("_orig_mod.", ""): weight for name, weight in weights.items()}
    shared = next((prefix for prefix in prefixes if weights and all(name.startswith(prefix) for name in weights)), None)
    if shared is None:
        return weights
    return _strip({name.removeprefix(shared): weight for name, weight in weights.items()}, prefixes)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """The network's state by names without wrappers."""
    state = network.state_dict()
    extra = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if extra:
        raise TypeError(f"the network keeps state that is no tensor, which weights files cannot hold: {extra[:_SHOWN]}")
    return _strip(state, WRAPPERS)


def _sorted_header(content: bytes) -> tuple[bytes, int]:
    """The header of a safetensors file with its metadata sorted by key, and where the tensors begin in `content`.

    safetensors writes metadata in random order.
    """
    (length,) = struct.unpack_from("<Q", content)
    start = 8 + length
    entries = json.loads(content[8:start])
    if "__metadata__" in entries:
        entries["__metadata__"] = dict(sorted(entries["__metadata__"].items()))
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8
    return struct.pack("<Q", len(header)) + header, start


def _read_weights(path: Path, wanted: Container[str], prefixes: Iterable[str]) -> dict[str, Tensor]:
    """Reads the tensors of a file, of a training checkpoint those of its network, by names without prefixes."""
    content = read_content(path)
    held = next((value for value in map(content.get, _CONTAINERS) if isinstance(value, Mapping)), None)
    weights = _strip(content, prefixes) if held is None else _select(held, wanted, prefixes)
    foreign = {name: type(value).__name__ for name, value in weights.items() if not isinstance(value, Tensor)}
    if foreign or not weights:
        raise ValueError(
            f"{path} holds no state dict: {dict(list(foreign.items())[:_SHOWN]) or 'it is empty'}; expected tensors by "
            f"name, or a training checkpoint that holds them as {' or '.join(_CONTAINERS)}"
        )
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}


def _select(held: Mapping[str, object], wanted: Container[str], prefixes: Iterable[str]) -> dict[str, object]:
    """Leaves out what a training checkpoint keeps beside the network: losses, averaged copies, metrics."""
    weights = _strip(held, prefixes)
    if all(name in wanted for name in weights):
        return weights
    chosen = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in weights)), "")
    return _strip({name: value for name, value in weights.items() if name.startswith(chosen)}, prefixes)


def describe_differences(
    own: Mapping[str, Tensor], stored: Mapping[str, Tensor], optional: tuple[str, ...] = ()
) -> str:
    """Lists how the weights of a file differ from a network's, the first five of each kind; empty where all fit.

    Args:
        own: weights of the network, by name.
        stored: weights of the file, under the network's names.
        optional: endings of names that the file may lack.
    """
    faults = {
        "missing": [name for name in own if name not in stored and not name.endswith(optional)],
        "unexpected": [name for name in stored if name not in own],
        "of another shape or kind (file for network)": [
            f"{name} {tuple(stored[name].shape)} for {tuple(weight.shape)}"
            for name, weight in own.items()
            if name in stored
            and (stored[name].shape != weight.shape or stored[name].is_floating_point() != weight.is_floating_point())
        ],
    }
    return "; ".join(
        f"{len(names)} {fault}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for fault, names in faults.items()
        if names
    )
