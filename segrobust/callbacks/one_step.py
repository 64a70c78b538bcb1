"""One step of a validation on one sample, as Lightning takes it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer import call as hooks
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch.utils._pytree import tree_unflatten

from segrobust.callbacks.access import evaluation_loop
from segrobust.callbacks.validated_images import LoaderImages, ValidatedImages


def transferred(trainer: Trainer, module: LightningModule, number: int, batch: Any) -> Any:
    """A batch on the device, after all hooks."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = module._on_before_batch_transfer(batch, dataloader_idx=number)
    return hooks._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=number)


Log = Callable[[str, Any], object]
"""What a step's logs are given to: name and value."""


def _log_nothing(name: str, value: Any) -> None:
    del name, value


def take_step(trainer: Trainer, module: LightningModule, number: int, batch: Any, log: Log = _log_nothing) -> Any:
    """One step of the validation, as Lightning's loop takes it, without DDP around it; gives what it returned."""
    loop = evaluation_loop(trainer)
    several = loop._is_sequential and loop.num_dataloaders > 1
    name = step_name(trainer)
    step = getattr(module, name)
    if is_param_in_hook_signature(step, "dataloader_iter", explicit=True):
        arguments: tuple[Any, ...] = (iter([(batch, 0, number)]),)
    else:
        kwargs = loop._build_kwargs(batch, 0, number if several else None)
        arguments = loop._build_step_args_from_hook_kwargs(kwargs, name)
    with precision_of_validation(trainer), logging_to(module, log):
        return step(*arguments)


def batch_of(trainer: Trainer, images: ValidatedImages, part: LoaderImages, sample: Any) -> Any:
    """The batch of one sample; beside batches of the other loaders where these are read together."""
    loop = evaluation_loop(trainer)
    if loop._is_sequential:
        return part.batch(sample)
    others = {other.number: other for other in images.parts if other is not part}
    batches = [
        others[number].batch(others[number].read(0)) if number in others else part.batch(sample)
        for number in range(loop.num_dataloaders)
    ]
    assert loop._combined_loader is not None
    return tree_unflatten(batches, loop._combined_loader._spec)


def step_name(trainer: Trainer) -> str:
    """The method of a LightningModule that the trainer calls."""
    return "test_step" if trainer.testing else "validation_step"


def precision_of_validation(trainer: Trainer) -> Any:
    """The context in which Lightning validates."""
    plugin = trainer.precision_plugin
    return plugin.test_step_context() if trainer.testing else plugin.val_step_context()


@contextmanager
def logging_to(module: LightningModule, log: Log) -> Iterator[None]:
    """Gives what LightningModules log to a function, and to nothing else."""

    def log_one(name: str, value: Any, *args: Any, **settings: Any) -> None:
        del args, settings
        log(name, value)

    def log_all(values: Mapping[str, Any], *args: Any, **settings: Any) -> None:
        for name, value in values.items():
            log_one(name, value)

    inside = [part for part in module.modules() if isinstance(part, LightningModule)]
    try:
        for part in inside:
            part.__dict__.update(log=log_one, log_dict=log_all)
        yield
    finally:
        for part in inside:
            del part.__dict__["log"], part.__dict__["log_dict"]
