"""Finds the network, the entries of a sample and the evaluation loop in any Lightning project."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from torch import nn

from segrobust.inputs import Entry as Entry
from segrobust.inputs import entry_of as entry_of
from segrobust.inputs import require_network

NetworkPlace = str | Callable[[LightningModule], nn.Module]
"""Dotted path of an attribute of the LightningModule, or a function of it."""


def describe_place(place: NetworkPlace) -> str:
    """What identifies a place in state keys: the path, or the name of the function, the same in every process."""
    if isinstance(place, str):
        return place
    name: str = getattr(place, "__qualname__", "") or re.sub(r" at 0x[0-9a-f]+", "", repr(place))
    return name


def check_place(place: NetworkPlace) -> None:
    """Refuses what is neither a path nor a function of the LightningModule.

    Raises:
        TypeError: a network itself, or something that cannot be called.
    """
    if isinstance(place, nn.Module):
        raise TypeError(
            f"network={type(place).__name__}(...) is a network itself: say where it is in the LightningModule, by a "
            "path such as network='model' or a function such as network=lambda module: module.model"
        )
    if not isinstance(place, str) and not callable(place):
        raise TypeError(f"network must be a dotted path or a function of the LightningModule, got {place!r}")


def find_network(module: LightningModule, place: NetworkPlace) -> nn.Module:
    """The network of a LightningModule.

    Raises:
        ValueError: no attribute of that name (the message lists the existing modules), or weights in 16 bits.
        TypeError: the attribute is not an `nn.Module`.
    """
    if isinstance(place, str):
        try:
            network = operator.attrgetter(place)(module)
        except AttributeError:
            children = ", ".join(repr(name) for name, _ in module.named_children()) or "none"
            raise ValueError(
                f"{type(module).__name__} has no attribute {place!r}; its modules are {children}: "
                "set network=... to the one that maps images in [0, 1] to logits"
            ) from None
    else:
        with torch.inference_mode(False):  # tensors of a new wrapper would take part in no gradient
            network = place(module)
    if not isinstance(network, nn.Module):
        raise TypeError(f"network={place!r} must give an nn.Module, got {type(network).__name__}")
    low = next((p.dtype for p in network.parameters() if p.dtype in (torch.float16, torch.bfloat16)), None)
    if low is not None:
        raise ValueError(
            f"network={place!r} has weights in {low}, in which a perturbation of 1/255 is lost: train with "
            "precision='bf16-mixed' or '16-mixed', which keeps them in float32"
        )
    require_network(network, by_gradients=False)
    return network


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """The callbacks of a trainer."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set outside of its class
    return callbacks


def is_dry_run(trainer: Trainer) -> bool:
    """Whether the trainer was made with `fast_dev_run`."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set outside of its class


def has_ended(trainer: Trainer) -> bool:
    """Whether the training has ended, for callers that otherwise act in validations and tests alone."""
    return trainer.training


def has_no_images(trainer: Trainer, stage: str) -> bool:
    """Whether no image will be validated or tested, for callers in `setup`."""
    if stage == "fit":
        return not trainer.enable_validation
    limits = {"validate": trainer.limit_val_batches, "test": trainer.limit_test_batches}
    return stage in limits and limits[stage] == 0


def logged_step(trainer: Trainer) -> int:
    """The step at which Lightning logs what belongs to the network as it is: the batches so far, from 0.

    Within a validation the counter is that of the last batch; when the training has ended it is one past it.
    """
    return trainer.fit_loop.epoch_loop._batches_that_stepped - int(has_ended(trainer))


def log_after_training(trainer: Trainer, values: Mapping[str, float], epoch: int) -> None:
    """Logs numbers where `LightningModule.log` is forbidden: to every logger, and into the metrics of the trainer.

    Args:
        trainer: whose training has ended; all processes call this.
        values: numbers by log key.
        epoch: in which the training ended, from 0.
    """
    tensors = {key: torch.tensor(value, device=trainer.lightning_module.device) for key, value in values.items()}
    for metrics in (trainer.callback_metrics, trainer.logged_metrics):
        metrics.update(tensors)
    for logger in trainer.loggers:
        logger.log_metrics({**values, "epoch": epoch}, step=logged_step(trainer))
        logger.save()


def prepare_validation_data(trainer: Trainer) -> None:
    """Makes the validation loaders where the training ended before its first validation; all processes call this."""
    with as_in_validation(trainer):
        trainer.fit_loop.epoch_loop.val_loop.setup_data()


def evaluation_loop(trainer: Trainer) -> _EvaluationLoop:
    """The loop that validates or tests, with its loaders; when the training has ended, that of its validations.

    Raises:
        RuntimeError: outside of validation and test.
    """
    # `trainer.val_dataloaders` gives those of an earlier `fit` in `validate`
    loop = trainer.fit_loop.epoch_loop.val_loop if has_ended(trainer) else trainer._active_loop
    if not isinstance(loop, _EvaluationLoop) or loop._combined_loader is None:
        raise RuntimeError("there are no evaluation data outside of validation and test")
    return loop


@contextmanager
def as_in_validation(trainer: Trainer) -> Iterator[None]:
    """Lets steps and hooks that ask the trainer see a validation, at the end of a training and in the sanity check.

    Projects leave parts of their steps out in the sanity check.
    """
    stage = trainer.state.stage
    if has_ended(trainer) or trainer.sanity_checking:
        trainer.validating = True  # as Lightning does before the first epoch
    try:
        yield
    finally:
        trainer.state.stage = stage
