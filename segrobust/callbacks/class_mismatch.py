"""What to write where `validation_step` counts classes or averages otherwise than the evaluation does."""

import json
from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer
from torch import nn

from segrobust.callbacks.access import Entry
from segrobust.callbacks.class_map import UNKNOWN, ClassMap
from segrobust.callbacks.view_mismatch import name_in, step_of

_LUT_SIZE = 256
"""Entries of the table in the line to write."""


def explain_classes(
    trainer: Trainer,
    module: LightningModule,
    entry: Entry,
    changed: ClassMap,
    ignore_index: int,
) -> str:
    """The message where the step compares predictions with other classes than `mask=` gives.

    Args:
        trainer: validates or tests.
        module: the LightningModule.
        entry: of the mask in a sample.
        changed: the class as which each of these classes counts, None for void.
        ignore_index: label of void pixels.
    """
    parts = [
        f"class {label} " + {None: "is left out", UNKNOWN: "counts as another"}.get(answer, f"counts as class {answer}")
        for label, answer in sorted(changed.items())
    ]
    return (
        f"{step_of(trainer, module)} compares predictions with other classes than mask= gives: {', '.join(parts)}. "
        f"{_advice(entry, changed, ignore_index)}, or set compare_with_validation=False if the masks are right as they "
        "are. Classes that do not occur in the compared images are not known"
    )


def _advice(entry: Entry, changed: ClassMap, ignore_index: int) -> str:
    """The line to write, where the classes are known."""
    if UNKNOWN in changed.values():
        return "Give mask= a function of the sample that returns the classes of the network"
    place = f"sample[{json.dumps(entry)}]" if isinstance(entry, str | int) else "(what mask= gives now)"
    line = f"Write mask=lambda sample: {_table(changed, ignore_index)}[{place}.long()]"
    if {*changed.values()} - {None, *changed}:
        line += ", and network= a function that merges the classes too if the step merges those of the predictions"
    return line


def _table(changed: ClassMap, ignore_index: int) -> str:
    """A tensor as an expression, which is indexed by a mask."""
    highest = max(changed)
    entries = [changed.get(label, label) for label in range(highest + 1)]
    values = ", ".join(str(ignore_index if entry is None else entry) for entry in entries)
    last = ignore_index if ignore_index == -1 else _LUT_SIZE - 1
    return f"torch.tensor([{values}, *range({highest + 1}, {_LUT_SIZE - 1}), {last}])"


def explain_views(trainer: Trainer, module: LightningModule, network: nn.Module, views: Sequence[str]) -> str:
    """The warning where the step gives the network changed images.

    Args:
        trainer: validates or tests.
        module: the LightningModule.
        network: the module that both ways call.
        views: how the images are changed.
    """
    how = {"flipped": "flipped images too, as averages over flips do", "padded": "padded images"}
    return (
        f"{step_of(trainer, module)} gives {name_in(module, network)!r} {' and '.join(how[view] for view in views)}; "
        "what is attacked is one call for the image as it is, so that clean numbers of both may differ a little. To "
        "attack what is validated, give network= a module that does the same"
    )


def explain_doubt(trainer: Trainer, module: LightningModule, reason: str) -> str:
    """The warning where nothing shows whether the step counts the classes of `mask=`.

    Args:
        trainer: validates or tests.
        module: the LightningModule.
        reason: why.
    """
    return (
        f"RobustnessEvaluation: it is not proven that {step_of(trainer, module)} compares predictions with the classes "
        f"that mask= gives: {reason}. If masks or classes are changed there or later, give mask= a function of the "
        "sample that does the same, such as mask=lambda sample: table[sample[1].long()]. To say that they are not, "
        "set compare_with_validation=False"
    )
