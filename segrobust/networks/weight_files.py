"""Files of weights as they lie on disk: what they are, and what they hold.

A file gives tensors, numbers and text, never objects: pickles are read by torch's weights-only unpickler alone.
"""

import os
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, struct.error)
"""What torch's weights-only unpickler raises for code, and for damaged files."""


def read_content(path: Path) -> dict[str, object]:
    """Gives the entries of a file, safetensors or a pickle of torch that needs no code, on the CPU.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is something else (an HTML page, a Git LFS pointer), damaged, or needs code; it says which.
    """
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
    content = _unpickle(path)
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


def _unpickle(path: Path) -> object:
    """Reads a pickle of torch; torch's own messages are not repeated, as they advise to read it with code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        code = named[1] if named else "a TorchScript program" if "TorchScript" in str(error) else None
        if code is None:
            raise ValueError(f"{path} is damaged, truncated, or no checkpoint of torch") from error
        raise ValueError(
            f"{path} is refused: it names {code}, code that would run on reading; only tensors, numbers, text and "
            f"containers of them are read. Write the state dict alone to a file, where you trust this one"
        ) from error


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors by its name or its first bytes.

    Raises:
        OSError: the file cannot be opened.
    """
    return path.suffix == ".safetensors" or _head(path)[8:9] == b"{"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)
