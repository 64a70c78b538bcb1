"""Lets steps of projects be tried: what they write goes nowhere, and what they count is undone."""

import io
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from os import PathLike
from typing import IO, Any

from torch import nn

_WRITERS = (
    ("logging", "Logger.handle"),
    ("torch", "save"),
    ("torch.utils.tensorboard.writer", "FileWriter.add_event"),
    ("tensorboardX.writer", "FileWriter.add_event"),
    ("wandb", "log"),
    ("wandb.sdk.wandb_run", "Run.log"),
    ("mlflow.tracking.client", "MlflowClient.log_metric"),
    ("mlflow.tracking.client", "MlflowClient.log_batch"),
    ("mlflow.tracking.client", "MlflowClient.log_artifact"),
    ("mlflow.tracking.client", "MlflowClient.log_image"),
    ("cv2", "imwrite"),
)
"""Functions and methods that write otherwise than by `open`, by module; of modules that are imported."""

_CONTAINERS = (list, dict, set, deque)


class Nothing:
    """In the place of a logger: takes every call, attribute and entry.

    Args:
        known: attributes that have a value.
    """

    def __init__(self, **known: Any) -> None:
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> "Nothing":
        """Does nothing."""
        return self

    def __getitem__(self, key: Any) -> "Nothing":
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drops the value."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __enter__(self) -> "Nothing":
        return self

    def __exit__(self, *error: object) -> None:
        """Lets errors pass."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Nothing":
        return self


@contextmanager
def nothing_written() -> Iterator[None]:
    """Within it, this thread writes no file by `open`, no record of loggers, and nothing to the standard output.

    Files that exist are read as they are. Not held back: what other libraries write, connections, other processes.
    """
    thread = threading.get_ident()
    with ExitStack() as stack:
        opened = _opened_nowhere(open)
        for owner in ("builtins", "io"):
            stack.enter_context(_replaced(owner, "open", thread, opened))
        for owner, name in _WRITERS:
            stack.enter_context(_replaced(owner, name, thread, _write_nothing))
        stack.enter_context(redirect_stdout(io.StringIO()))
        yield


@contextmanager
def attributes_kept(module: nn.Module) -> Iterator[None]:
    """Gives the parts of a module the attributes, the contents of containers and the buffers back that they had."""
    kept = [(part, dict(vars(part))) for part in module.modules()]
    contents = [(value, value.copy()) for _, own in kept for value in own.values() if isinstance(value, _CONTAINERS)]
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for part, own in kept:
            part.__dict__.clear()
            part.__dict__.update(own)
        for container, content in contents:
            _refill(container, content)
        for buffer, value in buffers:
            if not buffer.equal(value):
                buffer.detach().copy_(value)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    container.extend(content) if isinstance(container, list | deque) else container.update(content)


@contextmanager
def _replaced(owner: str, name: str, thread: int, replacement: Callable[..., Any]) -> Iterator[None]:
    """Replaces a function, or a method, for one thread; does nothing if its module is not imported."""
    place: Any = sys.modules.get(owner)
    *classes, name = name.split(".")
    for each in classes:
        place = getattr(place, each, None)
    original = getattr(place, name, None)
    if original is None:
        yield
        return

    def called(*args: Any, **kwargs: Any) -> Any:
        return (replacement if threading.get_ident() == thread else original)(*args, **kwargs)

    setattr(place, name, called)
    try:
        yield
    finally:
        setattr(place, name, original)


def _write_nothing(*args: Any, **kwargs: Any) -> Nothing:
    del args, kwargs
    return Nothing()


def _opened_nowhere(original: Callable[..., IO[Any]]) -> Callable[..., IO[Any]]:
    """`open`, which gives an empty file without a name for every file that would be written."""

    def opened(file: str | bytes | PathLike[Any] | int, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:
        if isinstance(file, int) or kwargs.get("opener") or not {*mode} & {*"wax+"}:
            return original(file, mode, *args, **kwargs)
        settings = {**dict(zip(("buffering", "encoding", "errors", "newline"), args, strict=False)), **kwargs}
        settings = {name: value for name, value in settings.items() if name not in ("closefd", "opener")}
        return tempfile.TemporaryFile(f"w+{'b' if 'b' in mode else ''}", **settings)

    return opened
