"""Reads the tensors of published files, whatever objects lie beside them, and compares hashes."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

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


def read_tensors(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Gives the weights of a published file by name, and the names of the entries beside them.

    A prefix `module.` that all names share is dropped. Objects beside the weights, such as those that training
    frameworks keep in `meta`, are neither imported nor run: torch's weights-only unpickler puts an empty object there.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no checkpoint, needs code to be read, or holds something unknown beside the weights.
    """
    content: dict[str, Any] = read_content(path)
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
