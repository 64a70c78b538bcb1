"""Networks from specifications that a checkpoint carries: only classes of allowed packages are imported."""

import importlib
from collections.abc import Iterable, Mapping

from torch import nn

DEFAULT_ALLOWLIST = ("segrobust", "torch.nn", "torchvision.models", "segmentation_models_pytorch", "timm")
"""Packages whose classes a checkpoint may name."""


def build_network(spec: Mapping[str, object], *, allow: tuple[str, ...] = DEFAULT_ALLOWLIST) -> nn.Module:
    """Builds a network from `{"class_path": ..., "init_args": {...}}`, nested where an argument is a network itself.

    Nothing is imported unless every class path of the specification lies in an allowed package, and nothing is called
    that is not a subclass of `nn.Module` defined in one. Arguments are passed as they are: a constructor that fetches
    pretrained weights does so here too, unless its arguments say otherwise.

    Args:
        spec: the specification, for example parsed from the metadata of a checkpoint.
        allow: packages, or modules of packages, whose classes may be built.

    Raises:
        ValueError: a class path outside of `allow` (the message names the flag that would allow it), that cannot be
            found, or that is no network; or a malformed specification.
        TypeError: arguments that a class does not take.
    """
    for nested in _specs(spec):
        _require_allowed(_class_path(nested), allow)
    network = _build(spec, allow)
    if not isinstance(network, nn.Module):
        raise ValueError(f"a network needs a 'class_path', got the keys {sorted(spec)}")
    return network


def _specs(value: object) -> list[Mapping[str, object]]:
    """All specifications of classes in a nested value, outermost first."""
    if isinstance(value, Mapping):
        inner = [spec for item in value.values() for spec in _specs(item)]
        return [value, *inner] if "class_path" in value else inner
    if isinstance(value, list | tuple):
        return [spec for item in value for spec in _specs(item)]
    return []


def _class_path(spec: Mapping[str, object]) -> str:
    class_path = spec["class_path"]
    parts = class_path.split(".") if isinstance(class_path, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"class_path must be 'package.module.Class', got {class_path!r}")
    if set(spec) - {"class_path", "init_args"} or not isinstance(spec.get("init_args", {}), Mapping):
        raise ValueError(f"{class_path} is specified by 'class_path' and a mapping 'init_args', got {sorted(spec)}")
    return ".".join(parts)


def _is_under(path: str, packages: Iterable[str]) -> bool:
    return any(path.startswith(f"{package}.") for package in packages)


def _require_allowed(class_path: str, allow: tuple[str, ...]) -> None:
    """Raises ValueError, naming the narrowest flag that would do, unless the path lies in an allowed package."""
    if _is_under(class_path, allow):
        return
    module, root = class_path.rpartition(".")[0], class_path.partition(".")[0]
    flag = module if root in {entry.partition(".")[0] for entry in allow} else root
    raise ValueError(
        f"{class_path} is outside of the packages that a checkpoint may name ({', '.join(allow)}), so not imported; "
        f"if you trust it, add the flag: --allow-import {flag}"
    )


def _build(value: object, allow: tuple[str, ...]) -> object:
    """Replaces every specification in a nested value by what it builds, innermost first."""
    if isinstance(value, list | tuple):
        return type(value)(_build(item, allow) for item in value)
    if not isinstance(value, Mapping):
        return value
    if "class_path" not in value:
        return {name: _build(item, allow) for name, item in value.items()}
    arguments = value.get("init_args", {})
    built = {name: _build(item, allow) for name, item in arguments.items()}
    return _find_network_class(_class_path(value), allow)(**built)


def _find_network_class(class_path: str, allow: tuple[str, ...]) -> type[nn.Module]:
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ValueError(f"{class_path} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"{class_path} is no class of networks (a subclass of torch.nn.Module), but {found!r}")
    if not _is_under(f"{found.__module__}.{name}", allow):
        raise ValueError(
            f"{class_path} is defined in {found.__module__}, outside of the packages that a checkpoint may name "
            f"({', '.join(allow)}); if you trust it, add the flag: --allow-import {found.__module__}"
        )
    return found
