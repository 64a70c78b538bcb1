"""Devices by name, checked before any work."""

from difflib import get_close_matches
from typing import Final

import torch

from segrobust.untrusted.printable import shortened

_OTHER_WORDS: Final = {"gpu": "cuda", "nvidia": "cuda", "metal": "mps"}
_KINDS: Final = ("cpu", "cuda", "mps", "xpu", *_OTHER_WORDS)


def require_device(name: str) -> None:
    """Checks that a device exists on this machine.

    Args:
        name: such as `cpu`, `cuda` or `cuda:1`.

    Raises:
        ValueError: it does not; the message lists those that do.

    Examples:
        >>> require_device("cpu")
    """
    available = available_devices()
    if name in available or _works(name):
        return
    meant = _meant(name)
    guess = f"did you mean {meant}? " if meant != name else ""
    raise ValueError(f"there is no device {shortened(name)}: {guess}this machine has {', '.join(available)}")


def available_devices() -> list[str]:
    """The devices of this machine that torch can use, of the usual kinds.

    Examples:
        >>> available_devices()[0]
        'cpu'
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{index}" for index in range(gpus)), *apple]


def _works(name: str) -> bool:
    """Whether a tensor can be made there and read."""
    try:
        torch.ones(1, device=name).tolist()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):  # the ways in which torch lacks a device
        return False
    return name.split(":")[0] != "meta"


def _meant(name: str) -> str:
    """The name that other words for a device mean, or that is spelt like this one."""
    letters = "".join(filter(str.isalpha, name.casefold()))
    number = "".join(filter(str.isdecimal, name))
    near = get_close_matches(letters, _KINDS, n=1)
    kind = _OTHER_WORDS.get(near[0], near[0]) if near else ("cuda" if number == name else "")
    return f"{kind}:{number}" if kind and number and kind != "cpu" else kind or name
