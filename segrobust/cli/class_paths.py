"""Nearest names of classes and of their arguments, for errors."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

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
        base: class path of the base class, if it is known; the subclasses that are imported come first.
    """
    first, *parts = path.split(".")
    corrected = _corrected(path) if parts else None
    if corrected or (parts and not nearest(first, ("segrobust",))):
        return corrected
    return _by_name(path.rsplit(".", 1)[-1], base)


def argument_names(path: str) -> list[str]:
    """The names of the arguments of a class or function, with those that it hands to its base classes."""
    target: Any = _find(path)
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


def _by_name(name: str, base: str) -> str | None:
    """The class with the nearest name: a subclass of the base class, or any public class of the package."""
    public = {
        name: f"{package.__name__}.{name}"
        for package in map(importlib.import_module, reversed(_PACKAGES))
        for name in getattr(package, "__all__", ())
    }
    parent = _find(base)
    subclasses = _subclasses(parent) if inspect.isclass(parent) else {}
    for paths in ({name: public.get(name, path) for name, path in subclasses.items()}, public):
        near = nearest(name, paths)
        if near:
            return paths[near[0]]
    return None


def _subclasses(parent: Any) -> dict[str, str]:
    """Class paths of all public classes that inherit from one, by name."""
    found: dict[str, str] = {}
    for child in type.__subclasses__(parent):
        if not child.__name__.startswith("_"):
            found.setdefault(child.__name__, f"{child.__module__}.{child.__name__}")
        found = _subclasses(child) | found
    return found


def _corrected(path: str) -> str | None:
    """The path with the nearest public name in the place of each part that does not exist."""
    first, *parts = path.split(".")
    module = _import(first)
    if module is None:
        near = nearest(first, _LIBRARIES)
        module = _import(near[0]) if near else None
    reached: object = module
    names = [module.__name__] if module is not None else []
    for place, part in enumerate(parts if module is not None else ()):
        found = _member(reached, part)
        if found is None:
            near = nearest(part, _public(reached, classes=place == len(parts) - 1))
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


def _public(owner: object, *, classes: bool) -> Iterator[str]:
    """The public names of a module: its classes and functions, or its modules."""
    if isinstance(owner, ModuleType) and hasattr(owner, "__path__") and not classes:
        yield from (module.name for module in pkgutil.iter_modules(owner.__path__) if not module.name.startswith("_"))
    for name in dir(owner):
        if not name.startswith("_") and callable(getattr(owner, name, None)) == classes:
            yield name


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
