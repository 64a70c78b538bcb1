"""Networks that were saved as programs: TorchScript, and `torch.export`."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segrobust.networks.adapted import AdaptedNetwork, NetworkRecord
from segrobust.networks.preprocessing import choose_preprocessing


def program_network(
    file: str,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    trusted: bool = False,
    check_size: Sequence[int] = (64, 64),
) -> AdaptedNetwork:
    """Loads a network that `torch.jit.save` or `torch.export.save` wrote, if it can be attacked by gradients.

    Such a file is a program, and reading it can run what it holds: `trusted` says that its origin is known. The network
    is for evaluation: a program keeps the mode, the precision and often the sizes that it was saved with.

    Args:
        file: the program; TorchScript (`.pt`) or an exported program (`.pt2`).
        num_classes: number of classes K.
        mean: red, green and blue in [0, 1], that the program expects to be subtracted; zeros if it does so itself.
        std: likewise; ones if it divides itself.
        trusted: the file comes from where you would run a program from.
        check_size: height and width of an image that it takes, in pixels.

    Returns:
        The network of images in [0, 1].

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is not trusted, no such program, compiled without gradients, or has none.
    """
    path = Path(file)
    kind = _kind_of(path)
    if not trusted:
        raise ValueError(
            f"{file} is {kind}: reading a program can run what it holds. Set trusted=True if you know where it comes "
            f"from; otherwise take weights alone, as safetensors, into a network of your own configuration"
        )
    return AdaptedNetwork(
        _Program(_load(path, kind), file),
        preprocessing=choose_preprocessing(None, mean, std, override=False, source=file),
        record=NetworkRecord(source=file, num_classes=num_classes, pretrained=True),
        check_size=check_size,
    )


class _Program(nn.Module):
    """A program whose refusal of an image says what to do; the mode in which it was saved stays as it is."""

    def __init__(self, program: nn.Module, source: str) -> None:
        super().__init__()
        self.program = program
        self.source = source

    def train(self, mode: bool = True) -> "_Program":
        """Leaves the program as it is: an exported one has no modes."""
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Any:
        try:
            return self.program(images)
        except AssertionError as error:
            raise ValueError(
                f"{self.source} does not take images of the shape {tuple(images.shape)}: {error}. Export it with "
                f"dynamic_shapes for batch, height and width, or give it images of its size one at a time"
            ) from error


_SCRIPT, _EXPORTED, _COMPILED = "TorchScript", "an exported program", "a program compiled ahead of time"


def _kind_of(path: Path) -> str:
    """The kind of a program by the names of the files in the archive, without reading any of them."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no program that torch.jit.save or torch.export.save wrote")
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
    if any(name.startswith("data/aotinductor/") for name in names):
        return _COMPILED
    if any(name.startswith("models/") for name in names):
        return _EXPORTED
    if any(name.startswith("code/") for name in names):
        return _SCRIPT
    raise ValueError(f"{path} holds no program; weights alone are read by segrobust.networks.load_weights")


def _load(path: Path, kind: str) -> nn.Module:
    if kind == _COMPILED:
        raise ValueError(
            f"{path} is {kind}, for inference: it has no gradients. Save the exported program itself, by "
            f"torch.export.save, or attack the module that it was made from"
        )
    if kind == _SCRIPT:
        script: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        if not hasattr(script, "training"):
            raise ValueError(
                f"{path} was frozen for inference: its weights are constants, without mode or device. Save the "
                f"scripted module as it was before torch.jit.freeze"
            )
        return script
    return torch.export.load(path).module()
