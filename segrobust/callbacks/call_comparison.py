"""Compares the calls of a network that is attacked with those of a validation."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor
from torch.utils._pytree import tree_leaves

from segrobust.callbacks.call_record import Call

SAME_IMAGES = 0.01
"""Largest root mean square of a difference, in standard deviations of the image; bfloat16 rounds by 0.004."""

SAME_LOGITS = 0.02
"""The same of outputs: equal inputs, kernels and precision give 0, another batch on a GPU gives 0.001."""

_OTHER_CLASSES = 0.005
"""Largest share of pixels of another class; ties of probabilities in 16 bits are broken either way."""


def is_proven(attacked: Call, validated: Sequence[Call], *, outputs: bool) -> bool:
    """Whether calls of a validation show that a network is attacked on what it is validated on.

    A module that was called by the validation must have got the same image and returned the same. One that was not
    called is a wrapper, whose parts are asked.

    Args:
        attacked: a call of the network that is attacked.
        validated: calls of the validation.
        outputs: whether outputs have to be the same; not those of random networks.
    """
    answers = [call for call in validated if call.module is attacked.module]
    if answers:
        return any(agree(attacked, answer, outputs=outputs) for answer in answers)
    with_images = any(call.images is not None for call in attacked.inner)
    return with_images and all(is_proven(call, validated, outputs=outputs) for call in attacked.inner)


def other_classes_after(attacked: Call, root: Call) -> Call | None:
    """The call around that of a network which turns its logits into those of other classes; None if there is none.

    Probabilities have the classes of their logits. Logits of another size, and containers, are not compared.

    Args:
        attacked: a call of the network that is attacked.
        root: an outermost call of the validation.
    """
    inside = {id(call.module) for call in attacked.walk()}
    around = [call for call in root.walk() if id(call.module) not in inside and _contains(call, inside)]
    return next((call for call in around if call.is_plain and not _same_classes(attacked.output, call.output)), None)


def _contains(call: Call, modules: set[int]) -> bool:
    """Whether a call made one of some modules."""
    return any(id(inner.module) in modules for root in call.inner for inner in root.walk())


def _same_classes(first: Tensor | None, second: Tensor | None) -> bool:
    """Whether the largest values are those of the same classes; what is missing or of another shape is not compared."""
    if first is None or second is None or first.shape != second[:1].shape or not second.is_floating_point():
        return True
    return any(
        (first.argmax(1) != second[row : row + 1].argmax(1)).float().mean().item() <= _OTHER_CLASSES
        for row in range(len(second))
    )


def agree(attacked: Call, validated: Call, *, outputs: bool) -> bool:
    """Whether one image of a call of the validation, and its output, are those of the attacked call.

    The validation may have padded the image; outputs are compared if they have the size of the padded image.
    """
    if attacked.images is None or validated.images is None:
        return True
    for row in range(len(validated.images)):
        given = validated.images[row : row + 1]
        if same(attacked.images, given, SAME_IMAGES):
            result = None if validated.output is None else validated.output[row : row + 1]
            return not outputs or same(attacked.output, result, SAME_LOGITS)
        for place in places(given, attacked.images):
            if same(attacked.images, given[place], SAME_IMAGES):
                result = None if validated.output is None else validated.output[row : row + 1]
                if result is None or result.shape[2:] != given.shape[2:]:
                    return True
                return not outputs or same(attacked.output, result[place], SAME_LOGITS)
    return False


def holds_mask(batch: object, mask: Tensor, ignore_index: int) -> bool | None:
    """Whether a mask is in a batch of one sample; None if nothing there has its shape.

    Args:
        batch: nested containers of tensors.
        mask: `(H, W)`; dimensions of one element in the batch are ignored.
        ignore_index: label of the pixels that may have another value in the batch.
    """
    alike = tensors_like(batch, mask)
    return any(is_mask(leaf, mask, ignore_index) for leaf in alike) if alike else None


def tensors_like(batch: object, mask: Tensor) -> list[Tensor]:
    """The tensors of a batch that have the shape of a mask, apart from dimensions of one element."""
    shape = mask.squeeze().shape
    return [leaf for leaf in tensors_in(batch) if leaf.squeeze().shape == shape]


def is_mask(leaf: Tensor, mask: Tensor, ignore_index: int) -> bool:
    """Whether a tensor has the classes of a mask in all pixels that are not void."""
    mask = mask.squeeze()
    valid = mask != ignore_index
    return bool((leaf.squeeze().cpu()[valid] == mask[valid]).all())


def tensors_in(batch: object) -> Iterator[Tensor]:
    """The tensors in nested containers."""
    for leaf in tree_leaves(batch):
        if isinstance(leaf, Tensor):
            yield leaf
        elif isinstance(leaf, Mapping):  # those that torch does not know, as of transformers
            yield from tensors_in(list(leaf.values()))


def same(first: Tensor | None, second: Tensor | None, tolerance: float) -> bool:
    """Whether two tensors differ by less than a share of their spread; what is missing cannot differ.

    Args:
        first: any shape.
        second: any shape; another one differs.
        tolerance: `SAME_IMAGES` or `SAME_LOGITS`.
    """
    if first is None or second is None:
        return True
    if first.shape != second.shape:
        return False
    finite = first.isfinite()
    if not finite.equal(second.isfinite()):
        return False
    first, second = first[finite], second[finite]
    if not len(first):
        return True
    scale = first.std(correction=0).clamp(min=1e-3 * float(first.abs().max()) + 1e-12)
    return bool((first - second).square().mean().sqrt() <= tolerance * scale)


def places(padded: Tensor, image: Tensor) -> Iterator[tuple[slice, ...]]:
    """The places in a larger image that have the size of another: at the start, in the middle, at the end."""
    height, width = image.shape[2:]
    more_rows, more_columns = padded.shape[2] - height, padded.shape[3] - width
    if min(more_rows, more_columns) < 0 or more_rows + more_columns == 0:
        return
    for share in (0.0, 0.5, 1.0):
        top, left = int(share * more_rows), int(share * more_columns)
        yield slice(None), slice(None), slice(top, top + height), slice(left, left + width)
