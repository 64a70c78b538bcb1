"""Reads the tensors of published files, whatever objects lie beside them, and compares hashes."""

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from segrobust.networks.weight_files import read_content

_CONTAINERS: Final = ("state_dict", "model", "model_state_dict")
"""Entries that hold the weights: mmsegmentation and hszhao/semseg, torchvision and rstrudel/segmenter, others."""

BESIDE: Final = frozenset(
    {
        *("meta", "message_hub", "version", "args", "config", "arch", "epoch", "iter", "n_iter"),
        *("optimizer", "optimizer_state_dict", "scheduler", "schedule", "lr_scheduler", "param_schedulers"),
        *("loss_scaler", "scaler", "amp_scaler", "amp"),
        *("metric", "best_prec1", "best_acc1", "best_miou", "nat_prec1", "adv_prec1"),
    }
)
"""Entries beside the weights that are knowingly left out: what the training was, and where it stood."""

_MOST_OBJECTS = 100

_REFUSED = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError)
"""What torch's weights-only unpickler raises for code, for damaged files, and for uses of an empty object."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Gives the weights of a published file by name, and the names of the entries beside them.

    A prefix `module.` that all names share is dropped. Objects beside the weights, such as those that training
    frameworks keep in `meta`, are neither imported nor run: torch's weights-only unpickler puts an empty object there.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no checkpoint, needs code to be read, or holds something unknown beside the weights.
    """
    content = _read_content(path)
    container = next((name for name in _CONTAINERS if isinstance(content.get(name), Mapping)), None)
    beside: tuple[str, ...] = ()
    if container is not None:
        beside = tuple(name for name in content if name != container)
        unknown = [name for name in beside if name not in BESIDE]
        if unknown:
            raise ValueError(
                f"{path} holds {', '.join(unknown)} beside {container!r}, which is neither weights nor known to be "
                f"needless; write {container!r} alone to a file"
            )
        content = {str(name): value for name, value in content[container].items()}
    foreign = {name: type(value).__name__ for name, value in content.items() if not isinstance(value, Tensor)}
    if foreign or not content:
        raise ValueError(f"{path} holds no state dict: {dict(list(foreign.items())[:5]) or 'it is empty'}")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return content, beside


def verify_sha256(path: Path, expected: str) -> None:
    """Raises ValueError unless the SHA-256 of a file begins with these hexadecimal digits, eight at least."""
    if not re.fullmatch("[0-9a-f]{8,64}", expected.lower()):
        raise ValueError(f"sha256 must be 8 to 64 hexadecimal digits, got {expected!r}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected.lower()):
        raise ValueError(
            f"{path} has the SHA-256 {found[: len(expected)]}..., expected {expected}...: it is another file, or the "
            f"download failed; download it again"
        )


def _read_content(path: Path) -> dict[str, Any]:
    """Reads a file by `read_content`; where that refuses it for the code it names, reads the tensors alone."""
    try:
        return read_content(path)
    except ValueError:
        content = _read_beside_objects(path)
        if content is None:
            raise
        return content


class _Nothing:
    """What stands in the place of an object of a class, or of a call, that a file names."""

    def __init__(self, *args: object, **settings: object) -> None:
        del args, settings

    def __setstate__(self, state: object) -> None:
        del state


def _read_beside_objects(path: Path) -> dict[str, Any] | None:
    """Reads a pickle of torch, each class and function that it names replaced by `_Nothing`.

    The unpickler stays torch's own, which imports nothing, and which refuses modules that reach the system (`os`,
    `sys`) whatever is allowed. One name is reported at a time, because old files cannot be searched for all.

    Returns:
        The entries, or None where the file cannot be read in this way.
    """
    named: list[str] = []
    while len(named) < _MOST_OBJECTS:
        allowed: list[Any] = [(_Nothing, name) for name in named]
        try:
            with torch.serialization.safe_globals(allowed):
                content = torch.load(path, map_location="cpu", weights_only=True)
        except _REFUSED as error:
            found = re.search(r"GLOBAL (\S+)", str(error))
            if found is None:
                return None
            name = found[1] if "." in found[1] else f"builtins.{found[1]}"  # as torch shortens the names of built-ins
            if name in named:
                return None
            named.append(name)
        else:
            return {str(name): value for name, value in content.items()} if isinstance(content, Mapping) else None
    return None
