"""What `validation_step` does after the network: taken on a copy of the LightningModule, which is thrown away."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from segrobust.callbacks.call_comparison import SAME_IMAGES, is_mask, places, same, tensors_in, tensors_like
from segrobust.callbacks.call_record import LARGEST_IMAGE, Call, recorded
from segrobust.callbacks.class_map import Witness, class_map
from segrobust.callbacks.mask_flow import MaskFlow
from segrobust.callbacks.module_copy import copied
from segrobust.callbacks.one_step import step_name, take_step


@dataclass(frozen=True)
class Rest:
    """What a whole step does with one sample.

    Attributes:
        classes: as which class each class of the mask counts, where that is known; None for void.
        shown_by: what showed that.
        calls: all recorded calls, outermost ones first; of the modules of the copy.
        copies: the copied modules by the id of the original.
    """

    classes: Mapping[int, int | None]
    shown_by: Witness
    calls: tuple[Call, ...]
    copies: Mapping[int, Any]

    def other_views(self, attacked: Call) -> tuple[str, ...]:
        """How the step changes an image for some calls of the network.

        Args:
            attacked: the call of the outermost module that both ways call, for the image.
        """
        image, network = attacked.images, self.copies.get(id(attacked.module), attacked.module)
        if image is None or image.shape[1] > LARGEST_IMAGE:
            return ()
        given = [call.images for call in self.calls if call.module is network and call.images is not None]
        rows = [call[row : row + 1] for call in given for row in range(len(call))]
        return tuple(name for name, is_view in _VIEWS.items() if any(is_view(image, row) for row in rows))


def _is_flipped(image: Tensor, given: Tensor) -> bool:
    """Whether an image is given mirrored or upside down, and not as it is."""
    if given.shape != image.shape or same(image, given, SAME_IMAGES):
        return False
    return any(same(image.flip(dims), given, SAME_IMAGES) for dims in ((3,), (2,), (2, 3)))


def _is_padded(image: Tensor, given: Tensor) -> bool:
    return any(same(image, given[place], SAME_IMAGES) for place in places(given, image))


_VIEWS = {"flipped": _is_flipped, "padded": _is_padded}
"""What a step may do to an image, in part of its calls or in all, that the attacked network does not see."""


def follow_rest(
    trainer: Trainer,
    module: LightningModule,
    attacked: Call,
    batch: Any,
    number: int,
    mask: Tensor,
    *,
    ignore_index: int,
) -> Rest | None:
    """Takes a whole step, whose metrics, lists and logs are those of a copy, and follows the mask through it.

    Args:
        trainer: validates.
        module: the LightningModule.
        attacked: a call of the network that the step makes too.
        batch: of one sample, after the transfer hooks.
        number: of the loader.
        mask: `(H, W)`, as the evaluation reads it.
        ignore_index: label of void pixels.

    Returns:
        None where the logits have not the size of the mask.

    Raises:
        Exception: whatever the project raises in its step or in its copy.
    """
    logits = attacked.output
    if logits is None or logits.shape[2:] != mask.shape:
        return None
    flow = MaskFlow((mask.shape[0], mask.shape[1]), (mask.flatten() != ignore_index).nonzero()[:, 0])
    for leaf in _holders(batch, mask, ignore_index):
        flow.mark_mask(leaf)
    twin, copies = copied(trainer, module, step_name(trainer))
    networks = [copies.get(id(call.module), call.module) for call in attacked.walk()]

    def mark(called: nn.Module, output: object) -> None:
        if any(called is network for network in networks):
            flow.mark_predictions(output)

    with recorded([*networks, *twin.modules()], returned=mark) as calls, flow:
        take_step(trainer, twin, number, batch)
    classes, shown_by = class_map(flow, mask, logits, ignore_index)
    return Rest(classes, shown_by, tuple(call for root in calls for call in root.walk()), copies)


def _holders(batch: Any, mask: Tensor, ignore_index: int) -> list[Tensor]:
    """The tensors of a batch that hold the mask; else those from which `mask=` may make it."""
    alike = tensors_like(batch, mask)
    equal = [leaf for leaf in alike if is_mask(leaf, mask, ignore_index)]
    return equal or [leaf for leaf in alike or tensors_in(batch) if _may_hold(leaf, mask)]


def _may_hold(leaf: Tensor, mask: Tensor) -> bool:
    return not leaf.is_floating_point() and leaf.shape[-2:] == mask.shape
