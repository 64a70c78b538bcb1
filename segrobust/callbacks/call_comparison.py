"""Compares the calls of a network that is attacked with those of a validation."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from segrobust.callbacks.call_record import Call

SAME_IMAGES = 0.01
"""Largest root mean square of a difference, in standard deviations of the image; bfloat16 rounds by 0.004."""

SAME_LOGITS = 0.02
"""The same of outputs: equal inputs, kernels and precision give 0, another batch on a GPU gives 0.001."""


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


def agree(attacked: Call, validated: Call, *, outputs: bool) -> bool:
    """Whether one image of a call of the validation, and its output, are those of the attacked call.

    The validation may have padded the image; outputs are not compared then.
    """
    if attacked.images is None or validated.images is None:
        return True
    for row in range(len(validated.images)):
        given = validated.images[row : row + 1]
        if same(attacked.images, given, SAME_IMAGES):
            result = None if validated.output is None else validated.output[row : row + 1]
            return not outputs or same(attacked.output, result, SAME_LOGITS)
        if any(same(attacked.images, inside, SAME_IMAGES) for inside in _unpadded(given, attacked.images)):
            return True
    return False


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


def _unpadded(padded: Tensor, image: Tensor) -> Iterator[Tensor]:
    """The parts of a larger image that have the size of another: at the start, in the middle, at the end."""
    height, width = image.shape[2:]
    more_rows, more_columns = padded.shape[2] - height, padded.shape[3] - width
    if min(more_rows, more_columns) < 0 or more_rows + more_columns == 0:
        return
    for share in (0.0, 0.5, 1.0):
        top, left = int(share * more_rows), int(share * more_columns)
        yield padded[:, :, top : top + height, left : left + width]
