"""Files of weights as they lie on disk: what they are, and what they hold.

A file gives tensors, numbers and text. Pickles are read by torch's weights-only unpickler alone, which puts an empty
object in the place of each object of a class that the file names: nothing is imported, and nothing of the file runs.
"""

import os
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from segrobust.networks.foreign_files import what_it_is
from segrobust.networks.weight_folders import find_file, is_index, read_index
from segrobust.untrusted.regular_files import open_regular
from segrobust.untrusted.torch_files import require_modest_pickle

UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, struct.error)
"""What torch's weights-only unpickler raises for code, and for damaged files."""

_MOST_OBJECTS = 100


def read_content(path: Path, *, beside_objects: bool = True) -> dict[str, object]:
    """Gives the entries of a file, safetensors or a pickle of torch that needs no code, on the CPU.

    Args:
        path: a file, the index of a file in shards, or a folder that holds one of them.
        beside_objects: whether a pickle may name classes and functions, whose objects are not read; False for files
            that a library reads too.

    Raises:
        OSError: the file cannot be opened, or a shard is missing.
        ValueError: the file is something else (an HTML page, a Git LFS pointer), damaged, needs code, or would take
            more memory than it has bytes; it says which.
    """
    path = find_file(path)
    if is_index(path):
        return _read_shards(path, beside_objects)
    head = _head(path)
    if not head:
        raise ValueError(f"{path} is empty: the download or the copy failed")
    # A safetensors file may begin with the byte `<` too: the low byte of a length, whose high bytes are zero.
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<") and b"\0" not in head[:8]:
        raise ValueError(f"{path}: this file is an HTML page, not a checkpoint: the download failed")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer, not the checkpoint itself: run `git lfs pull`")
    if is_safetensors(path):
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(f"{path} is a damaged or truncated safetensors file: {error}") from error
    content = _unpickle(path, beside_objects)
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a state dict or a training checkpoint")
    return {str(name): value for name, value in content.items()}


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Gives the text that `save_weights` kept beside the weights, without reading these.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is not safetensors, or damaged.
    """
    path = Path(path)
    if not is_safetensors(path):
        raise ValueError(f"{path} is not a safetensors file; only these hold metadata")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is a damaged or truncated safetensors file: {error}") from error


def _read_shards(index: Path, beside_objects: bool) -> dict[str, object]:
    """Reads the tensors of all shards of an index, each of which must be where the index says."""
    tensors: dict[str, object] = {}
    for shard, names in read_index(index).items():
        held = read_content(shard, beside_objects=beside_objects)
        missing = [name for name in names if name not in held]
        if missing:
            raise ValueError(f"{shard} lacks {len(missing)} tensors that {index.name} lists: {', '.join(missing[:5])}")
        tensors.update((name, held[name]) for name in names)
    return tensors


class _Unread:
    """An empty object in the place of an object or a call that a file names; each name has a class of its own."""

    def __init__(self, *args: object, **settings: object) -> None:
        del args, settings

    def __setstate__(self, state: object) -> None:
        del state


class _UnreadMapping(_Unread):
    """A dictionary in the place of an object of a subclass of `dict`, whose items are read."""

    def __new__(cls, *args: object, **settings: object) -> Any:
        del args, settings
        return OrderedDict()


def _unpickle(path: Path, beside_objects: bool) -> object:
    """Reads a pickle of torch; torch's own messages are not repeated, as they advise to read it with code."""
    require_modest_pickle(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        content = _read_beside_objects(path) if beside_objects else None
        if content is not None:
            return content
        named = re.search(r"GLOBAL (\S+)", str(error))
        code = named[1] if named else "a TorchScript program" if "TorchScript" in str(error) else None
        if code is None:
            raise ValueError(f"{path} {what_it_is(path)}") from error
        raise ValueError(
            f"{path} is refused: it names {code}, code that would run on reading; only tensors, numbers, text and "
            f"containers of them are read. Write the state dict alone to a file, where you trust this one"
        ) from error


def _read_beside_objects(path: Path) -> object | None:
    """Reads a pickle of torch, each class and function that it names replaced by an empty class.

    The unpickler stays torch's own, which imports nothing, and which refuses modules that reach the system (`os`,
    `sys`) whatever is allowed. One name is reported at a time, because old files cannot be searched for all. A class
    whose objects get items is a subclass of `dict`, and becomes a plain one.

    Returns:
        The entries, or None where the file cannot be read in this way.
    """
    allowed: dict[str, type[_Unread]] = {}
    while len(allowed) < _MOST_OBJECTS:
        replaced: list[Any] = [(made, name) for name, made in allowed.items()]
        try:
            with torch.serialization.safe_globals(replaced):
                content = torch.load(path, map_location="cpu", weights_only=True)
        except (*UNREADABLE, TypeError, AttributeError) as error:  # the last two: uses of an empty object
            mapping = next((name for name, made in allowed.items() if f"but got {made}" in str(error)), None)
            if mapping is not None:
                allowed[mapping] = type(mapping, (_UnreadMapping,), {})
                continue
            found = re.search(r"GLOBAL (\S+)", str(error))
            if found is None:
                return None
            name = found[1] if "." in found[1] else f"builtins.{found[1]}"  # as torch shortens the names of built-ins
            if name in allowed:
                return None
            allowed[name] = type(name, (_Unread,), {})
        else:
            return content if isinstance(content, Mapping | list | tuple) else None
    return None


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors by its name or its first bytes.

    Raises:
        OSError: the file cannot be opened.
        DataFault: it is no regular file.
    """
    head = _head(path)
    return path.suffix == ".safetensors" or head[8:9] == b"{"


def _head(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read(64)
