"""Nearest names of classes and of their arguments, for errors."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Final

from segrobust.cli.nearest import nearest

_PACKAGES: Final = (
    "segrobust.attacks",
    "segrobust.attacks.targets",
    "segrobust.data",
    "segrobust.networks",
    "segrobust.tasks",
    "segrobust.callbacks",
)
"""Where classes are looked for that were named without their module."""

_LIBRARIES: Final = (
    *("segrobust", "torch", "torchvision", "lightning", "segmentation_models_pytorch", "timm", "transformers"),
    *("albumentations", "torchmetrics"),
)


def nearest_class(path: str, base: str = "") -> str | None:
    """The class path that is most like one that does not exist.

    Args:
        path: such as `segrobust.attacks.PDG`, or only the name of a class.
        base: name of the base class, if it is known; classes that do not inherit from it are left out.
    """
    if "." in path:
        return _corrected(path) or _ours(path.rsplit(".", 1)[-1], base)
    return _ours(path, base)


def argument_names(path: str) -> list[str]:
    """The names of the arguments of a class or function, with those that it hands to its base classes."""
    target = _find(path)
    bases = target.__mro__[:-1] if inspect.isclass(target) else (target,)
    names: list[str] = []
    for base in bases:
        try:
            parameters = inspect.signature(base).parameters.values()
        except (TypeError, ValueError):
            continue
        names += [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return list(dict.fromkeys(names))


def _find(path: str) -> object:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None


def _ours(name: str, base: str) -> str | None:
    """The class of the package with the nearest name."""
    classes = {}
    for package in map(importlib.import_module, _PACKAGES):
        for public in getattr(package, "__all__", ()):
            found = getattr(package, public, None)
            if inspect.isclass(found) and (not base or base in (cls.__name__ for cls in found.__mro__)):
                classes.setdefault(public, f"{package.__name__}.{public}")
    near = nearest(name, classes)
    return classes[near[0]] if near else None


def _corrected(path: str) -> str | None:
    """The path with the nearest public name in the place of each part that does not exist."""
    first, *parts = path.split(".")
    module = _import(first)
    if module is None:
        near = nearest(first, _LIBRARIES)
        module = _import(near[0]) if near else None
    reached: object = module
    names = [module.__name__] if module is not None else []
    for part in parts if module is not None else ():
        found = _member(reached, part)
        if found is None:
            near = nearest(part, _public(reached))
            part = near[0] if near else part
            found = _member(reached, part)
        if found is None:
            return None
        reached = found
        names.append(part)
    corrected = ".".join(names)
    return corrected if names and corrected != path else None


def _member(owner: object, name: str) -> object:
    """An attribute, or a module of a package; None if there is none."""
    found = getattr(owner, name, None)
    return found if found is not None or not isinstance(owner, ModuleType) else _import(f"{owner.__name__}.{name}")


def _public(owner: object) -> Iterator[str]:
    if isinstance(owner, ModuleType) and hasattr(owner, "__path__"):
        yield from (module.name for module in pkgutil.iter_modules(owner.__path__) if not module.name.startswith("_"))
    yield from (name for name in dir(owner) if not name.startswith("_"))


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
