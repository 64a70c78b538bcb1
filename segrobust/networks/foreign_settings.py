"""Settings by which a library builds a network, in a folder of somebody else: what they may ask for.

Settings are values, and libraries act on some of them: they fetch a kernel of the hub and run it, read weights of
another place, or build a network of any size before they look at its weights. Such settings are refused here, and a
network is built within a limit that the size of its files of weights gives.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from segrobust.untrusted.documents import read_json
from segrobust.untrusted.printable import shortened, visible

_LARGEST_NUMBER: Final = 2**20
"""Sizes of layers and vocabularies are smaller."""

_LARGEST_SIDE: Final = 2**12
_SIDES: Final = ("image_size", "img_size", "height", "width", "num_channels", "in_channels", "classes", "num_labels")
"""Names of the sizes of the image that the gradient of a new network is checked on, and of its logits."""

_ATTENTION, _OWN_ATTENTION = "attn_implementation", ("eager", "sdpa")
"""All others are packages, or kernels that transformers fetches from the hub."""

_FETCHED: Final = ("quantization_config", "use_kernels", "kernel_config")
_COPIES: Final = 8
"""Weights that are made for each byte of a file: libraries make each several times, and files may be of half
precision."""

_EACH: Final = 256
"""Weights for which a parameter counts besides its own: a module takes time and memory too."""

_LEAST: Final = 2**16


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a file; none of them makes a library fetch or read anything else.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: no JSON object, too large, no regular file, a number that is too large, or a setting that names
            code.
    """
    content = read_json(path, "the settings of a network")
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    for name, value in _values(content):
        largest = _LARGEST_SIDE if name in _SIDES else _LARGEST_NUMBER
        if isinstance(value, int | float) and abs(value) > largest:
            raise ValueError(f"{path}: {shortened(name)} is {shortened(value)}; at most {largest} is allowed")
        named = name.endswith(_ATTENTION) and isinstance(value, str) and value not in _OWN_ATTENTION
        if named or (name in _FETCHED and value):
            raise ValueError(
                f"{path}: {shortened(name)} is {shortened(value)}, which a library may fetch from elsewhere and run; "
                "remove this line"
            )
    return content


@contextmanager
def refusing(path: Path, library: str) -> Iterator[None]:
    """Within it, errors of a library, which are of any type and length, are those of foreign settings.

    Args:
        path: the file of the settings.
        library: that reads them.

    Raises:
        ValueError: settings that the library does not take.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(path.parent) in str(error) and "\n" not in str(error):
            raise
        said = visible(str(error).strip().split("\n")[0])[:300] or type(error).__name__
        raise ValueError(f"{path} has settings that {library} does not take: {said}") from error


@contextmanager
def within(path: Path, library: str, weights: Iterable[Path]) -> Iterator[None]:
    """Within it, modules are built by foreign settings, and have no more weights than their files can hold.

    Args:
        path: the file of the settings.
        library: that reads them.
        weights: files of the weights.

    Raises:
        ValueError: more weights than that, or as `refusing`.
    """
    size = sum(file.stat().st_size for file in weights if file.is_file())
    left = _COPIES * size + _LEAST

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel() + _EACH
        if left < 0:
            raise ValueError(f"{path} describes a network of more weights than its files of {size} bytes can hold")

    hook = register_module_parameter_registration_hook(count)
    try:
        with refusing(path, library):
            yield
    finally:
        hook.remove()


def _values(content: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """All values, however nested, each with the nearest name."""
    waiting: list[tuple[str, object]] = [*content.items()]
    while waiting:
        name, value = waiting.pop()
        yield name, value
        if isinstance(value, Mapping):
            waiting += [(name if name.endswith(_ATTENTION) else key, item) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [(name, item) for item in value]
