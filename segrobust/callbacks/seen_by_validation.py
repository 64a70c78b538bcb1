"""Proves that what is attacked is what `validation_step` validates: an image, followed on both ways to the network."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer import call as hooks
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn
from torch.utils._pytree import tree_unflatten

from segrobust.callbacks.access import (
    NetworkPlace,
    as_in_validation,
    entry_of,
    evaluation_loop,
    find_network,
    has_ended,
)
from segrobust.callbacks.call_comparison import SAME_LOGITS, holds_mask, is_proven, other_classes_after, same
from segrobust.callbacks.call_record import Call, recorded
from segrobust.callbacks.validated_images import LoaderImages, ValidatedImages
from segrobust.callbacks.view_mismatch import explain, explain_masks, explain_random_images, explain_turned
from segrobust.evaluation.dataset import load_sample
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.functional.modes import evaluation_mode, is_compiled


class _ProvenError(BaseException):
    """Ends a `validation_step` before it changes metrics; no `except Exception` of a project stops it."""


@dataclass(frozen=True)
class _TwoWays:
    """Both ways of one image to a network.

    Attributes:
        image: `(1, C, H, W)` as it is attacked.
        attacked: the call of the network for it.
        validated: what `validation_step` called for it, outer calls first; cut off where proven.
        proven: whether the network gets the same image, and gives the same logits.
        turned: a call around that of the network, which gives other classes; None if there is none.
        masks_kept: whether the hooks kept the mask of the batch, where it was in it.
    """

    image: Tensor
    attacked: Call
    validated: tuple[Call, ...]
    proven: bool
    turned: Call | None
    masks_kept: bool


def require_same_view(
    trainer: Trainer,
    module: LightningModule,
    place: NetworkPlace,
    images: ValidatedImages,
    sample_ids: Sequence[int],
    *,
    ignore_index: int,
) -> nn.Module:
    """Refuses to go on unless the network gets from `validation_step` what it is attacked on.

    For each sample, one batch goes through the loader's collate function, the transfer hooks and `validation_step`
    (`test_step` in tests), as Lightning calls them, up to the call of the network that proves it; the rest of the step
    is left out, and nothing is logged. All processes call this with the same samples.

    Args:
        trainer: validates, tests, or has ended its training.
        module: the LightningModule.
        place: of the network in it.
        images: the images that are attacked.
        sample_ids: positions of the samples to compare.
        ignore_index: label of void pixels.

    Returns:
        The outermost module that both ways call.

    Raises:
        ValueError: other images, masks or logits; the message has the line that would make them the same. Or an error
            of `validation_step` on a batch of one sample.
    """
    network = shared = find_network(module, place)
    for sample_id in sample_ids:
        part, position = images.locate(sample_id)
        sample = part.read(position)
        image = entry_of(sample, images.image, "image")
        if not isinstance(image, Tensor) or image.ndim != 3:
            image = load_sample(images, sample_id).image  # raises, and says what it should be
        again = entry_of(part.read(position), images.image, "image")
        if not (isinstance(again, Tensor) and again.equal(image)):
            raise ValueError(explain_random_images(part.dataset))
        batch = _batch(trainer, images, part, sample)
        mask = load_sample(images, sample_id).mask
        view = _follow(trainer, module, network, part.number, batch, image, (mask, ignore_index))
        if not view.proven:
            raise ValueError(explain(trainer, module, place, images.image, view.image, view.attacked, view.validated))
        if view.turned is not None:
            raise ValueError(explain_turned(trainer, module, place, view.turned))
        if not view.masks_kept:
            raise ValueError(explain_masks(trainer, module))
        called = {id(call.module) for call in view.validated}
        shared = next(call.module for call in view.attacked.walk() if id(call.module) in called)
    return shared


def _follow(
    trainer: Trainer,
    module: LightningModule,
    network: nn.Module,
    number: int,
    batch: Any,
    image: Tensor,
    masks: tuple[Tensor, int],
) -> _TwoWays:
    """Takes one sample both ways: as an image, and as a batch of a loader; masks: the mask and the label of void."""
    ended = has_ended(trainer)
    images = image[None].to(device_of(network), precision_of(network), copy=True)
    watched = [*network.modules(), *module.modules()]
    seen: list[Call] = []
    with (
        isolate_rng(),
        torch.inference_mode(False),
        torch.no_grad(),
        _eager(module, network),
        as_in_validation(trainer),
    ):
        attacked, again = (_attacked(trainer, network, images, watched) for _ in range(2))
        random = not same(attacked.output, again.output, SAME_LOGITS)

        def judge(root: Call) -> None:
            seen.extend(root.walk())
            if is_proven(attacked, seen, outputs=not random):
                raise _ProvenError

        proven, kept, masked = False, True, holds_mask(batch, *masks)
        try:
            with recorded(watched, judge) as calls:
                batch = _transferred(trainer, module, number, batch)
                kept = holds_mask(batch, *masks) in (masked, None) or not masked
                _step(trainer, module, number, batch, ended=ended)
        except _ProvenError:
            proven = True
        except Exception as error:
            raise ValueError(
                f"{_step_name(trainer)} of {type(module).__name__} fails on a batch of one sample, so that it cannot "
                f"be compared with what is attacked: {type(error).__name__}: {error}. Make it accept one sample, or "
                "set compare_with_validation=False if you are sure that network= gets the images that are validated"
            ) from error
    turned = other_classes_after(attacked, calls[-1]) if proven and not random else None
    return _TwoWays(images, attacked, tuple(call for root in calls for call in root.walk()), proven, turned, kept)


def _attacked(trainer: Trainer, network: nn.Module, images: Tensor, watched: Sequence[nn.Module]) -> Call:
    """The call of the attacked network, in the precision of the validation."""
    with evaluation_mode(network), _precision(trainer), recorded(watched) as calls:
        network(images)
    return calls[0]


def _transferred(trainer: Trainer, module: LightningModule, number: int, batch: Any) -> Any:
    """A batch on the device, after all hooks."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = module._on_before_batch_transfer(batch, dataloader_idx=number)
    return hooks._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=number)


def _step(trainer: Trainer, module: LightningModule, number: int, batch: Any, *, ended: bool) -> None:
    """One step of the validation, as Lightning's loop takes it, without DDP around it."""
    loop = evaluation_loop(trainer)
    several = loop._is_sequential and loop.num_dataloaders > 1
    name = _step_name(trainer)
    step = getattr(module, name)
    if is_param_in_hook_signature(step, "dataloader_iter", explicit=True):
        arguments: tuple[Any, ...] = (iter([(batch, 0, number)]),)
    else:
        kwargs = loop._build_kwargs(batch, 0, number if several else None)
        arguments = loop._build_step_args_from_hook_kwargs(kwargs, name)
    with _precision(trainer), _silent(module), ExitStack() as stack:
        if ended:  # before, Lightning and the module have set the mode
            stack.enter_context(evaluation_mode(module))
        step(*arguments)


def _batch(trainer: Trainer, images: ValidatedImages, part: LoaderImages, sample: Any) -> Any:
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


def _step_name(trainer: Trainer) -> str:
    return "test_step" if trainer.testing else "validation_step"


def _precision(trainer: Trainer) -> Any:
    """The context in which Lightning validates."""
    plugin = trainer.precision_plugin
    return plugin.test_step_context() if trainer.testing else plugin.val_step_context()


@contextmanager
def _silent(module: LightningModule) -> Iterator[None]:
    """Lets LightningModules log nothing."""
    inside = [part for part in module.modules() if isinstance(part, LightningModule)]
    try:
        for part in inside:
            part.__dict__.update(log=_log_nothing, log_dict=_log_nothing)
        yield
    finally:
        for part in inside:
            del part.__dict__["log"], part.__dict__["log_dict"]


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    del args, kwargs


@contextmanager
def _eager(*modules: nn.Module) -> Iterator[None]:
    """Runs compiled modules without their graphs, in which calls cannot be followed."""
    if not any(
        is_compiled(part) or getattr(part, "_compiler_ctx", None) for module in modules for part in module.modules()
    ):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
