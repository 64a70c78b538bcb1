"""A copy of a LightningModule that takes steps of a validation and is thrown away."""

import copy
import copyreg
import io
import socket
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, Dataset

_SHARED = (Trainer, Logger, Callback, LightningDataModule, DataLoader, Dataset)
"""Attributes of a LightningModule that its copy does not copy."""

_HANDLES = (
    type(threading.Lock()),
    type(threading.RLock()),
    types.ModuleType,
    io.TextIOWrapper,
    io.BufferedWriter,
    io.BufferedReader,
    socket.socket,
)
"""Types that Python cannot copy, and that hold no numbers of a validation."""

_METHODS = ("forward", "training_step", "validation_step", "test_step", "predict_step")
"""What `torch.compile` of a LightningModule puts into it."""


class StandIn:
    """A trainer to a copied module: it logs, saves and steps nothing, and all else is that of the real one.

    To the copy no validation is a sanity check, as projects leave parts of their steps out there.
    """

    def __init__(self, trainer: Trainer) -> None:
        logger = DummyLogger()
        self.__dict__.update(
            _trainer=trainer,
            logger=logger,
            loggers=[logger for _ in trainer.loggers],
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

    Weights are copied too, because hooks of projects swap them. Locks, files and the like are shared.

    Args:
        trainer: of the module; the copy gets a `StandIn` of it.
        module: the original.
        name: of the step that the copy shall take.

    Raises:
        Exception: an object of the project that cannot be copied.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        memo |= {id(value): value for value in vars(part).values() if isinstance(value, _SHARED)}
    twin = deep_copy(module, memo)
    stand_in: Any = StandIn(trainer)
    for part in twin.modules():
        if isinstance(part, LightningModule):
            part.trainer = stand_in
    if getattr(twin, "_compiler_ctx", None):  # its compiled methods belong to the original
        for method in _METHODS:
            twin.__dict__.pop(method, None)
    if getattr(getattr(twin, name), "__self__", twin) is not twin or name in twin.__dict__:
        raise TypeError(f"{name} does not belong to the copy")
    return twin, memo


def deep_copy(module: LightningModule, memo: dict[int, Any]) -> LightningModule:
    """`copy.deepcopy`, which shares handles, and copies results of computations without their graphs."""
    with _copyable_handles(), _Detached():
        return copy.deepcopy(module, memo)


class _Detached(TorchFunctionMode):
    """While it is entered, results of computations are copied without their graphs, with which torch copies none."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and args[0].grad_fn is not None:
            return args[0].detach().clone()
        return func(*args, **(kwargs or {}))


@contextmanager
def _copyable_handles() -> Iterator[None]:
    """Lets `copy.deepcopy` share handles, inside of other objects too."""
    added = [kind for kind in _HANDLES if kind not in copyreg.dispatch_table]
    for kind in added:
        copyreg.dispatch_table[kind] = _shared
    try:
        yield
    finally:
        for kind in added:
            del copyreg.dispatch_table[kind]


def _shared(handle: object) -> str:
    """What `copy.deepcopy` takes for the advice to return the object itself."""
    return type(handle).__name__


def _nothing(*args: Any, **kwargs: Any) -> None:
    del args, kwargs
