"""Weights of networks: taken from files and checked, written atomically, known by a digest."""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from segrobust.networks.atomic_files import replacing
from segrobust.networks.weight_files import read_content
from segrobust.networks.weight_folders import is_shard
from segrobust.networks.weight_match import LoadedWeights, match_weights
from segrobust.untrusted.printable import visible

T = TypeVar("T")

WRAPPERS = ("_orig_mod.", "module.", "network.")
"""What `torch.compile`, data parallelism and the wrappers of this package put before the names of the weights."""

_SHOWN = 5


def load_weights(network: nn.Module, path: str | os.PathLike[str], *, part: str | None = None) -> LoadedWeights:
    """Copies the weights of a file into a network, all or nothing.

    The file is safetensors or a pickle of torch: a state dict, or a training checkpoint that holds one in any of its
    entries (`state_dict`, `model`, `net`, ...). It may also be the index of a file in shards, or a folder that holds
    one of these. No code of a file runs: an empty object stands in the place of each object that it names.

    Names are matched by their longest common endings, so that weights move between bare, wrapped, compiled and parallel
    networks and tasks that hold them as an attribute of any name. Every parameter and persistent buffer must be there
    in the network's shape; only the counters of batch normalisation may be missing, and are then 0, and all but one of
    the names of a tied parameter. Floating-point values are cast to the network's dtype.

    Several copies that differ, such as raw and averaged weights, are an error that lists them; `part` chooses one.

    Args:
        network: takes the weights, in place, on its device.
        path: the file, or its folder.
        part: the copy to take: entries of the file and attributes, joined by dots, or some of them in a row, such as
            "state_dict_ema" or "state_dict.teacher"; "." is the file itself.

    Returns:
        Where the weights were, as one line of text.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is no checkpoint (an HTML page, a Git LFS pointer, truncated), needs code to be read, holds
            several copies, the weights of another architecture, or values that are NaN or infinite.
    """
    state = network.state_dict()
    own = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    parameters = [name for name, value in network.named_parameters(remove_duplicate=False) if name in own]
    content = read_content(Path(path))
    try:
        weights, loaded = match_weights(own, parameters, content, part, _tied(network, own))
    except ValueError as error:
        shard = "; it is one of several shards: name their folder, or the index" if is_shard(Path(path)) else ""
        raise ValueError(visible(f"{path} {error}{shard}")) from None
    network.load_state_dict(state | weights | {name: torch.zeros_like(own[name]) for name in loaded.reset})
    return loaded


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


def _tied(network: nn.Module, own: Mapping[str, Tensor]) -> list[list[str]]:
    """Groups of names of one parameter."""
    names: dict[int, list[str]] = {}
    for name, weight in network.named_parameters(remove_duplicate=False):
        if name in own:
            names.setdefault(id(weight), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _strip(weights: Mapping[str, T]) -> dict[str, T]:
    """Drops the wrappers that all names share, repeatedly, and the marks of compiled sub-modules; keeps the order."""
    weights = {name.replace("_orig_mod.", ""): weight for name, weight in weights.items()}
    shared = next((prefix for prefix in WRAPPERS if weights and all(name.startswith(prefix) for name in weights)), None)
    if shared is None:
        return weights
    return _strip({name.removeprefix(shared): weight for name, weight in weights.items()})


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """The network's state by names without wrappers."""
    state = network.state_dict()
    extra = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if extra:
        raise TypeError(f"the network keeps state that is no tensor, which weights files cannot hold: {extra[:_SHOWN]}")
    return _strip(state)


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
