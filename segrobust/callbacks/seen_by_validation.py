"""Proves that what is attacked is what `validation_step` validates: an image, followed on both ways to the network."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

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
from segrobust.callbacks.class_map import ClassMap, changed_classes
from segrobust.callbacks.class_mismatch import explain_classes, explain_doubt, explain_views
from segrobust.callbacks.class_trial import try_classes
from segrobust.callbacks.module_copy import without_trace
from segrobust.callbacks.no_trace import nothing_written
from segrobust.callbacks.one_step import batch_of, precision_of_validation, step_name, take_step, transferred
from segrobust.callbacks.rest_of_step import Rest, follow_rest
from segrobust.callbacks.validated_images import ValidatedImages
from segrobust.callbacks.validated_weights import ValidatedWeights
from segrobust.callbacks.view_mismatch import explain, explain_masks, explain_random_images, explain_turned
from segrobust.evaluation.dataset import load_sample
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.functional.logits import require_class_logits
from segrobust.functional.modes import evaluation_mode, is_compiled
from segrobust.inputs import explain_refusals


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
    (`test_step` in tests), as Lightning calls them, up to the call of the network that proves it. A copy of the module
    then takes the whole step, and the mask is followed to where predictions are compared with it. Nothing is logged.
    All processes call this with the same samples.

    Warns if the step averages over views of an image, or pads it.

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
        ValueError: other images, masks, classes or logits; the message has the line that would make them the same. Or
            an error of `validation_step` on a batch of one sample.
    """
    network = shared = find_network(module, place)
    tables: list[ClassMap] = []
    doubts: list[str] = []
    for sample_id in sample_ids:
        part, position = images.locate(sample_id)
        sample = part.read(position)
        image = entry_of(sample, images.image, "image")
        if not isinstance(image, Tensor) or image.ndim != 3:
            image = load_sample(images, sample_id).image  # raises, and says what it should be
        again = entry_of(part.read(position), images.image, "image")
        if not (isinstance(again, Tensor) and again.equal(image)):
            raise ValueError(explain_random_images(part.dataset))
        batch = batch_of(trainer, images, part, sample)
        mask = load_sample(images, sample_id).mask
        view = _follow(trainer, module, network, part.number, batch, image, (mask, ignore_index))
        if not view.proven:
            raise ValueError(explain(trainer, module, place, images.image, view.image, view.attacked, view.validated))
        if view.turned is not None:
            raise ValueError(explain_turned(trainer, module, place, view.turned))
        if not view.masks_kept:
            raise ValueError(explain_masks(trainer, module))
        called = {id(call.module) for call in view.validated}
        common = [call for call in view.attacked.walk() if id(call.module) in called]
        shared = common[0].module

        with _isolated(trainer, module, network):
            with without_trace(trainer, module):
                batch = transferred(trainer, module, part.number, batch_of(trainer, images, part, part.read(position)))
            seen = _seen_classes(trainer, module, view.attacked, common, batch, part.number, mask, ignore_index)
        tables.append(seen.classes)
        doubts += [seen.doubt] if seen.doubt else []
        if sample_id == sample_ids[0] and seen.views and evaluation_loop(trainer)._is_sequential:
            rank_zero_warn(explain_views(trainer, module, shared, seen.views))
    if changed := changed_classes(tables):
        raise ValueError(explain_classes(trainer, module, images.mask, changed, ignore_index))
    if doubts and len(doubts) == len(tables):
        rank_zero_warn(explain_doubt(trainer, module, doubts[0]))
    return shared


@dataclass(frozen=True)
class _Seen:
    """What a whole step does with a sample.

    Attributes:
        classes: as which class each class of the mask counts.
        views: how images are changed, see `Rest.other_views`.
        doubt: why nothing shows how classes are counted; empty where something does.
    """

    classes: ClassMap
    views: tuple[str, ...] = ()
    doubt: str = ""


def _seen_classes(
    trainer: Trainer,
    module: LightningModule,
    attacked: Call,
    common: Sequence[Call],
    batch: Any,
    number: int,
    mask: Tensor,
    ignore_index: int,
) -> _Seen:
    """Follows the mask through a whole step; where that meets no metric, classes are tried."""
    assert attacked.output is not None
    num_classes = attacked.output.shape[1]
    rest: Rest | None = None
    tried: ClassMap = {}
    doubt = "no number that it logs, returns or keeps depends on both"
    try:
        kept = copy.deepcopy(batch)  # the step may write to it
        rest = follow_rest(trainer, module, attacked, batch, number, mask, ignore_index=ignore_index)
        if rest is None or rest.shown_by != "metrics":
            tried = try_classes(
                trainer, module, common, kept, number, mask, num_classes=num_classes, ignore_index=ignore_index
            )
    except Exception as error:  # a project may do anything there, and does it in its own validation too
        doubt = f"it fails on a copy of the module ({type(error).__name__}: {error})"
    if rest is None:
        return _Seen(tried, doubt="" if tried else doubt)
    is_shown = tried or rest.shown_by != "nothing"
    return _Seen({**rest.classes, **tried}, rest.other_views(common[0]), "" if is_shown else doubt)


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
    images = image[None].to(device_of(network), precision_of(network), copy=True)
    watched = [*network.modules(), *module.modules()]
    seen: list[Call] = []
    with _isolated(trainer, module, network):
        attacked, again = (_attacked(trainer, network, images, watched) for _ in range(2))
        random = not same(attacked.output, again.output, SAME_LOGITS)
        weights = ValidatedWeights()
        weights.take(network)

        def judge(root: Call) -> None:
            nonlocal attacked
            seen.extend(root.walk())
            proven = is_proven(attacked, seen, outputs=not random)
            if not proven and weights.differ_from(network):  # others were swapped in for the step
                attacked = _attacked(trainer, network, images, watched)
                proven = is_proven(attacked, seen, outputs=not random)
            if proven:
                raise _ProvenError

        proven, kept, masked = False, True, holds_mask(batch, *masks)
        try:
            with without_trace(trainer, module), recorded(watched, judge) as calls:
                batch = transferred(trainer, module, number, batch)
                kept = holds_mask(batch, *masks) in (masked, None) or not masked
                take_step(trainer, module, number, batch)
        except _ProvenError:
            proven = True
        except Exception as error:
            if _met(attacked, seen):  # what differs up to the call matters more than what fails after it
                return _TwoWays(images, attacked, tuple(seen), proven, None, kept)
            raise ValueError(
                f"{step_name(trainer)} of {type(module).__name__} fails on a batch of one sample, so that it cannot "
                f"be compared with what is attacked: {type(error).__name__}: {error}. Make it accept one sample, or "
                "set compare_with_validation=False if you are sure that network= gets the images that are validated"
            ) from error
    turned = other_classes_after(attacked, calls[-1]) if proven and not random else None
    return _TwoWays(images, attacked, tuple(call for root in calls for call in root.walk()), proven, turned, kept)


def _met(attacked: Call, seen: Sequence[Call]) -> bool:
    """Whether a validation called a module that the attacked network calls too."""
    modules = {id(call.module) for call in attacked.walk()}
    return any(id(call.module) in modules for call in seen)


def _attacked(trainer: Trainer, network: nn.Module, images: Tensor, watched: Sequence[nn.Module]) -> Call:
    """The call of the attacked network, in the precision of the validation."""
    with (
        evaluation_mode(network),
        precision_of_validation(trainer),
        recorded(watched) as calls,
        explain_refusals(network, images),
    ):
        output = network(images)
    require_class_logits(output, images)
    return calls[0]


@contextmanager
def _isolated(trainer: Trainer, module: LightningModule, network: nn.Module) -> Iterator[None]:
    """Lets steps be taken that leave no trace in generators, files and loggers, and in which calls can be followed."""
    with ExitStack() as stack:
        stack.enter_context(nothing_written())
        if has_ended(trainer):  # before, Lightning and the module have set the mode
            stack.enter_context(evaluation_mode(module))
        for context in (isolate_rng(), torch.inference_mode(False), torch.no_grad(), as_in_validation(trainer)):
            stack.enter_context(context)
        stack.enter_context(_eager(module, network))
        yield


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
