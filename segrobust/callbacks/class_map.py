"""As which classes a step counts the classes of a mask."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from segrobust.callbacks.mask_flow import Classes, Comparison, MaskFlow

_NEARLY_ALL = 0.99
"""Share of the pixels of a class that have to count as it."""

_MOST = 0.9
"""Share of the pixels predicted as a class that have to be predicted as one other: logits may have been resized."""

_LEFT_OUT = 0.5
"""A class is left out if the share of its pixels that count is less than this part of that of another class."""

UNKNOWN = -1
"""A class that the network did not predict where the step was followed."""

ClassMap = Mapping[int, int | None]
"""The class of the network as which a class of the masks counts; None for void, or `UNKNOWN`."""


Witness = Literal["metrics", "losses", "nothing"]
"""What compares predictions with masks; nothing does where both are left for later."""


def class_map(flow: MaskFlow, mask: Tensor, logits: Tensor, ignore_index: int) -> tuple[dict[int, int | None], Witness]:
    """As which class the step counts each class of a mask, where that can be known.

    Metrics, which compare classes, decide; without any, losses do. A class counts as itself if it does in one of them.

    Args:
        flow: what happened in the step.
        mask: `(H, W)` as the evaluation reads it.
        logits: `(1, K, H, W)` of the network.
        ignore_index: label of void pixels.

    Returns:
        An entry for each class of the mask that was seen in a comparison, and what showed it.
    """
    mask, predicted = mask.cpu().flatten(), logits.argmax(1).cpu().flatten()
    # Values of no class are reported elsewhere.
    valid = ((mask != ignore_index) & (mask >= 0) & (mask < logits.shape[1])).nonzero()[:, 0]
    found = [each for each in flow.comparisons if each.reduced or not each.narrowed]
    kind = [each for each in found if each.hard] or found
    if not kind:
        guesses: Sequence[Classes | None] = flow.left_over("predicted") or [None]
        kind = [
            Comparison(True, classes, guess, classes.pixels) for classes in flow.left_over("mask") for guess in guesses
        ]
    if any(each.mask is None or each.counted is None for each in kind):
        return {}, "nothing"
    counts = [_counted_as(each, mask, predicted, valid, logits.shape[1]) for each in kind]
    table: dict[int, int | None] = {}
    for label in _unique(mask[valid]):
        answers = [each[label] for each in counts if label in each]
        if answers:
            as_others = (answer for answer in answers if answer is not None)
            table[label] = label if label in answers else next(as_others, None)
    if not table or not found:
        return table, "nothing"
    return table, "metrics" if kind[0].hard else "losses"


def _counted_as(
    comparison: Comparison, mask: Tensor, predicted: Tensor, valid: Tensor, num_classes: int
) -> dict[int, int | None]:
    """The same for one comparison."""
    assert comparison.mask is not None
    assert comparison.counted is not None
    values = _by_class(comparison.mask, mask, valid, _NEARLY_ALL)
    names = _names(comparison.predicted, predicted, num_classes)
    table: dict[int, int | None] = {}
    merged: dict[int, int | None] = {}
    shares = _shares(comparison.counted, mask, valid)
    for label, share in shares.items():
        value = values.get(label)
        if share < _LEFT_OUT * max(shares.values()):
            if comparison.hard:
                table[label] = None
        elif value is None or value == comparison.ignored:
            table[label] = None
        else:
            answer = _named(names, label, value)
            if comparison.indicated and answer == label:
                answer = _chosen(comparison, predicted, label)
            table[label] = merged.setdefault(-1 if comparison.indicated else value, answer)
    return table


def _named(names: Sequence[int | None], label: int, value: int) -> int | None:
    """The class of the network that has the name `value`, which is that of the class `label` of the masks."""
    same = [name for name, given in enumerate(names) if given == value]
    if label in same or (not same and names[label] is None):
        return label
    if same:
        return same[0]
    return UNKNOWN if None in names and 0 <= value < len(names) else None


def _shares(counted: Tensor, mask: Tensor, valid: Tensor) -> dict[int, float]:
    """The share of the pixels of each class that count."""
    counts = torch.isin(valid, counted).double()
    return {label: float(counts[mask[valid] == label].mean()) for label in _unique(mask[valid])}


def _chosen(comparison: Comparison, predicted: Tensor, label: int) -> int | None:
    """The predicted class that is compared with a class of the mask by truth values."""
    if comparison.chosen is None or not bool((predicted == label).any()):
        return label
    chosen = predicted[comparison.chosen]
    if not len(chosen) or bool((chosen == label).any()):
        return label if len(chosen) else None
    return int(chosen.mode().values)


def _unique(labels: Tensor) -> list[int]:
    found: list[int] = torch.unique(labels).tolist()
    return found


def _by_class(classes: Classes, reference: Tensor, valid: Tensor, share: float) -> dict[int, int]:
    """The value that most pixels of each class of a reference have."""
    inside = torch.isin(classes.pixels, valid)
    labels, values = reference[classes.pixels[inside]], classes.values[inside]
    found: dict[int, int] = {}
    for label in _unique(labels):
        of_label = values[labels == label]
        value = of_label.mode().values
        if (of_label == value).double().mean() >= share:
            found[label] = int(value)
    return found


def _names(classes: Classes | None, predicted: Tensor, num_classes: int) -> list[int | None]:
    """What the step calls each class of the network; None for one that was not predicted, if others are renamed."""
    found = {} if classes is None else _by_class(classes, predicted, torch.arange(len(predicted)), _MOST)
    renamed = any(label != value for label, value in found.items())
    return [found.get(label, None if renamed else label) for label in range(num_classes)]


def changed_classes(tables: Sequence[ClassMap]) -> dict[int, int | None]:
    """The classes that count as another one or not at all, over several images."""
    found: dict[int, int | None] = {}
    for table in tables:
        found |= {label: answer for label, answer in table.items() if answer != label}
    return found
