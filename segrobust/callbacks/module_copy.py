"""A copy of a LightningModule that takes steps of a validation and is thrown away."""

import copy
import copyreg
import csv
import io
import socket
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, Dataset

from segrobust.callbacks.no_trace import Nothing, attributes_kept

_SHARED = (Trainer, Callback, LightningDataModule, DataLoader, Dataset)
"""What a copy does not copy, with all classes below."""

_HANDLES = (
    type(threading.Lock()),
    type(threading.RLock()),
    types.ModuleType,
    io.BufferedReader,
    socket.socket,
)
"""Types that Python cannot copy, and that hold no numbers of a validation: a copy shares them."""

_WRITERS = (
    ("torch.utils.tensorboard.writer", "SummaryWriter"),
    ("tensorboardX.writer", "SummaryWriter"),
    ("wandb.sdk.wandb_run", "Run"),
)
"""Classes of modules, if these are imported, in whose place a copy has nothing; so are the loggers of Lightning."""

_METHODS = ("forward", "training_step", "validation_step", "test_step", "predict_step")
"""What `torch.compile` of a LightningModule puts into it."""


class StandIn:
    """A trainer to a copied module: it logs, saves and steps nothing, and all else is that of the real one.

    To the copy no validation is a sanity check, as projects leave parts of their steps out there.
    """

    def __init__(self, trainer: Trainer) -> None:
        loggers = [_silent(logger) for logger in trainer.loggers]
        self.__dict__.update(
            _trainer=trainer,
            logger=loggers[0] if loggers else None,
            loggers=loggers,
            optimizers=[],
            lr_scheduler_configs=[],
            callback_metrics=dict(trainer.callback_metrics),
            logged_metrics={},
            should_stop=False,
            sanity_checking=False,
            save_checkpoint=_nothing,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_trainer"], name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "StandIn":
        return self


def copied(trainer: Trainer, module: LightningModule, name: str) -> tuple[LightningModule, dict[int, Any]]:
    """A copy of a LightningModule, and all copied objects by the id of the original.

    Weights are copied too, because hooks of projects swap them. Locks, modules and data sets are shared. In the
    place of loggers and of files that are written is nothing.

    Args:
        trainer: of the module; the copy gets a `StandIn` of it.
        module: the original.
        name: of the step that the copy shall take.

    Raises:
        Exception: an object of the project that cannot be copied.
    """
    memo: dict[int, Any] = {}
    twin = deep_copy(module, memo)
    for part in twin.modules():
        part.__dict__.update(_class_containers(part))
    _stand_in(trainer, twin)
    if getattr(twin, "_compiler_ctx", None):  # its compiled methods belong to the original
        for method in _METHODS:
            twin.__dict__.pop(method, None)
    if getattr(getattr(twin, name), "__self__", twin) is not twin or name in twin.__dict__:
        raise TypeError(f"{name} does not belong to the copy")
    return twin, memo


@contextmanager
def without_trace(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Within it, the module itself takes steps as a copy does, and has its attributes back at the end."""
    with attributes_kept(module):
        _stand_in(trainer, module)
        _leave_out_writers(module)
        yield


def deep_copy(module: LightningModule, memo: dict[int, Any]) -> LightningModule:
    """`copy.deepcopy`, which shares handles and trainer, and copies results of computations without their graphs."""
    with _copyable_handles(), _Detached():
        twin = copy.deepcopy(module, memo)
    for part, copied_part in zip(module.modules(), twin.modules(), strict=True):
        if isinstance(part, LightningModule):
            copied_part.__dict__["_trainer"] = part.__dict__["_trainer"]  # Lightning leaves it out of copies
    return twin


class _Detached(TorchFunctionMode):
    """While it is entered, results of computations are copied without their graphs, with which torch copies none."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and args[0].grad_fn is not None:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))


def _stand_in(trainer: Trainer, module: LightningModule) -> None:
    stand_in: Any = StandIn(trainer)
    for part in module.modules():
        if isinstance(part, LightningModule):
            part.trainer = stand_in


def _leave_out_writers(module: LightningModule) -> None:
    """Takes loggers, open files and what its class holds from a module; not from objects that it holds."""
    kinds = _writers()
    with _copyable_handles():
        for part in module.modules():
            held = {name: value for name, value in vars(part).items() if type(value) in kinds}
            part.__dict__.update(copy.deepcopy(held), **_class_containers(part))


def _silent(logger: Logger) -> Nothing:
    """A logger that writes nothing and has the name and the folders of another one."""
    known = {}
    for name in ("name", "version", "save_dir", "log_dir", "root_dir"):
        with suppress(Exception):  # of a logger of a project
            known[name] = getattr(logger, name)
    return Nothing(**known)


def _class_containers(part: nn.Module) -> dict[str, Any]:
    """Copies of the lists and mappings that a project keeps in its class."""
    return {
        name: value.copy()
        for kind in reversed(type(part).__mro__)
        if not kind.__module__.startswith(("torch", "lightning"))
        for name, value in vars(kind).items()
        if isinstance(value, list | dict | set) and not name.startswith("__") and name not in vars(part)
    }


@contextmanager
def _copyable_handles() -> Iterator[None]:
    """Lets `copy.deepcopy` share handles, and leave out what writes, inside of other objects too."""
    reduced = dict.fromkeys((*_HANDLES, *_all_below(_SHARED)), _shared) | _writers()
    added = [kind for kind in reduced if kind not in copyreg.dispatch_table]
    for kind in added:
        copyreg.dispatch_table[kind] = reduced[kind]
    try:
        yield
    finally:
        for kind in added:
            del copyreg.dispatch_table[kind]


def _writers() -> dict[type, Callable[[Any], Any]]:
    """Types that write, with what a copy has in their place, as `copyreg` wants it."""
    found = [getattr(sys.modules.get(module), name, None) for module, name in _WRITERS]
    left_out = (*_all_below((Logger,)), *filter(None, found), type(csv.writer(io.StringIO())))
    files = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.FileIO)
    return dict.fromkeys(left_out, _left_out) | dict.fromkeys(files, _written_nowhere)


def _all_below(kinds: tuple[type, ...]) -> Iterator[type]:
    for kind in kinds:
        yield kind
        yield from _all_below(tuple(type.__subclasses__(kind)))


def _shared(handle: object) -> str:
    """What `copy.deepcopy` takes for the advice to return the object itself."""
    return type(handle).__name__


def _left_out(writer: object) -> tuple[type[Nothing], tuple[()]]:
    del writer
    return Nothing, ()


def _written_nowhere(file: Any) -> Any:
    """Shares a file that is read, and replaces one that is written by an empty one."""
    if file.closed or not file.writable():
        return _shared(file)
    return tempfile.TemporaryFile, ("w+" if isinstance(file, io.TextIOWrapper) else "w+b",)


def _nothing(*args: Any, **kwargs: Any) -> None:
    del args, kwargs
