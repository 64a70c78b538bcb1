"""As which classes a step counts those of the masks, found by trials, wherever and however it counts.

In each trial the network predicts one class everywhere, and all pixels of the mask have one class. A number of the step
that compares both, such as an accuracy or a loss, has one value where both are the same class to the step, and another
one where they are not.
"""

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from segrobust.callbacks.call_comparison import tensors_in, tensors_like
from segrobust.callbacks.call_record import Call, recorded
from segrobust.callbacks.class_map import ClassMap
from segrobust.callbacks.module_copy import copied, deep_copy
from segrobust.callbacks.one_step import Log, logging_to, step_name, take_step
from segrobust.callbacks.step_numbers import kept_numbers, numbers_in
from segrobust.callbacks.trial_table import Outcomes, class_table

_MOST_LABELS = 4
"""Classes of one mask that are tried, each with each: those of most pixels."""

_MOST_PREDICTED = 64
"""Networks of more classes are not asked for all of them."""

_LESS_SURE = 0.5
"""Share of the difference between the logits of a class and all others, which changes losses and leaves metrics."""


@dataclass
class _Fake:
    """In the place of a network's `forward`: what it returned before, with one class predicted everywhere.

    Attributes:
        outputs: of the calls of one step.
        num_classes: channels that the network predicts; one channel is the logit of the second of two classes.
        predicted: the class.
        share: of the difference between its logits and the others, in what the network returned.
        calls: since the step began.
    """

    outputs: Sequence[object]
    num_classes: int
    predicted: int = 0
    share: float = 1.0
    calls: int = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        del args, kwargs
        output = self.outputs[min(self.calls, len(self.outputs) - 1)]
        self.calls += 1
        return tree_map(self._filled, output)

    def _filled(self, leaf: object) -> object:
        if not isinstance(leaf, Tensor) or leaf.ndim != 4 or leaf.shape[1] not in (self.num_classes, 1):
            return leaf
        finite = leaf[leaf.isfinite()]
        low, high = (finite.min(), finite.max()) if len(finite) else (leaf.new_zeros(()), leaf.new_ones(()))
        if leaf.shape[1] == 1:
            low, high = (low, high) if low >= 0 else (-leaf.abs().max(), leaf.abs().max())  # probabilities or logits
            middle, sign = (low + high) / 2, 2 * self.predicted - 1
            return torch.full_like(leaf, float(middle + sign * self.share * (high - low + 1e-3) / 2))
        filled = torch.full_like(leaf, float(low))
        filled[:, self.predicted] = low + self.share * (high - low).clamp(min=1e-3)
        return filled


class _Trials:
    """Steps of copies of a LightningModule whose network is fake.

    Args:
        trainer: validates.
        module: a copy, which is copied for each trial.
        network: in it.
        batch: of one sample.
        number: of the loader.
        holders: the tensors of the batch that hold the mask, with what each class of it is there.
        fake: the network's outputs.
    """

    def __init__(
        self,
        trainer: Trainer,
        module: LightningModule,
        network: nn.Module,
        batch: Any,
        number: int,
        holders: Sequence[tuple[Tensor, Tensor, Mapping[int, Tensor]]],
        fake: _Fake,
    ) -> None:
        self._trainer, self._module, self._batch, self._number = trainer, module, batch, number
        self._holders, self._fake = holders, fake
        parts = () if network is module else network.modules()
        self._shared = {id(part): part for part in (*parts, *module.parameters())}
        network.__dict__["forward"] = fake
        self._name = step_name(trainer).removesuffix("_step")
        self.with_hooks = True

    def take(self, predicted: int, label: int, share: float = 1.0) -> dict[str, float]:
        """The numbers of one step where everything is predicted as one class, and labelled as one."""
        fake, module = self._fake, deep_copy(self._module, dict(self._shared))
        fake.predicted, fake.share, fake.calls = predicted, share, 0
        logged: list[tuple[str, Any]] = []

        def log(name: str, value: Any) -> None:
            logged.append((name, value))

        self._hook(module, log, "epoch_start")
        batch = self._labelled(label)
        returned = take_step(self._trainer, module, self._number, batch, log)
        self._hook(module, log, "batch_end", returned, batch, 0)
        self._hook(module, log, "epoch_end")
        found: dict[str, float] = {}
        for name, value in logged:
            found |= numbers_in(value, f"logged {name}")
        found["all that is logged"] = sum(found.values())
        return found | numbers_in(returned, "returned") | kept_numbers(module, self._shared)

    def finish_epoch(self) -> None:
        """Lets the copy, which is in the middle of an epoch, drop what it holds of it."""
        self._hook(self._module, lambda name, value: None, "epoch_end")

    def _hook(self, module: LightningModule, log: Log, name: str, *args: Any) -> None:
        if self.with_hooks:
            with logging_to(module, log):
                getattr(module, f"on_{self._name}_{name}")(*args)

    def _labelled(self, label: int) -> Any:
        """The batch, with one class in all pixels that are not void."""
        memo: dict[int, Any] = {}
        batch = copy.deepcopy(self._batch, memo)
        for leaf, valid, values in self._holders:
            _pixels(memo[id(leaf)], valid)[..., valid.to(leaf.device)] = values[label][..., None]
        return batch


def try_classes(
    trainer: Trainer,
    module: LightningModule,
    calls: Sequence[Call],
    batch: Any,
    number: int,
    mask: Tensor,
    *,
    num_classes: int,
    ignore_index: int,
) -> ClassMap:
    """As which classes a step counts those of a mask, where numbers that it logs, returns or keeps show it.

    Copies of the module take the step, and its hooks at the end of batch and epoch, many times.

    Args:
        trainer: validates.
        module: the LightningModule.
        calls: of the attacked network and of its parts, outer ones first, that the step makes too.
        batch: of one sample, after the transfer hooks.
        number: of the loader.
        mask: `(H, W)`, as the evaluation reads it.
        num_classes: that the attacked network predicts.
        ignore_index: label of void pixels.

    Returns:
        An entry for each class that could be tried and that a number shows.

    Raises:
        Exception: whatever the project raises in its step or in its copy.
    """
    labels = _labels(mask, num_classes, ignore_index)
    holders = _holders(batch, mask, labels, ignore_index)
    networks = [call.module for call in calls if _gives_classes(call, num_classes)]
    if not networks or not holders or len(labels) < 2:
        return {}
    twin, copies = copied(trainer, module, step_name(trainer))
    network = copies.get(id(networks[0]), networks[0])
    with _restored(network), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = _outputs(trainer, module, networks[0], copy.deepcopy(batch), number)
        trials = _Trials(trainer, twin, network, batch, number, holders, _Fake(outputs, num_classes))
        try:
            trials.finish_epoch()
            trials.take(labels[0], labels[0])
        except Exception:  # hooks may need what the real trainer has
            trials.with_hooks = False
        return _tried(trials.take, labels, num_classes)


def _tried(take: Callable[..., dict[str, float]], labels: Sequence[int], num_classes: int) -> ClassMap:
    """Tries all pairs of some classes, and those in question with all other predictions."""
    other = next((label for label in range(num_classes) if label not in labels), None)
    predicted = [*labels, *(() if other is None else (other,))]
    outcomes: Outcomes = {(found, label): take(found, label) for label in labels for found in predicted}
    first, second = labels[:2]
    less_sure = [take(found, first, share=_LESS_SURE) for found in (first, second)]
    metrics = {
        name
        for name in outcomes[first, first]
        if all(
            less.get(name) == outcomes[found, first].get(name)
            for found, less in zip((first, second), less_sure, strict=True)
        )
    }
    table = class_table(outcomes, metrics, num_classes)
    if num_classes <= _MOST_PREDICTED:
        unclear = [label for label in labels if table.get(label) != label]
        rest = [found for found in range(num_classes) if found not in predicted]
        outcomes = {**outcomes, **{(found, label): take(found, label) for label in unclear for found in rest}}
        table = class_table(outcomes, metrics, num_classes)
    return table


def _labels(mask: Tensor, num_classes: int, ignore_index: int) -> list[int]:
    """The classes of a mask, those of most pixels first."""
    valid = mask[(mask != ignore_index) & (mask >= 0) & (mask < num_classes)]
    labels, counts = torch.unique(valid, return_counts=True)
    found: list[int] = labels[counts.argsort(descending=True)].tolist()
    return found[:_MOST_LABELS]


def _gives_classes(call: Call, num_classes: int) -> bool:
    channels = None if call.output is None else call.output.shape[1]
    return channels == num_classes or (channels == 1 and num_classes == 2)


def _holders(
    batch: Any, mask: Tensor, labels: Sequence[int], ignore_index: int
) -> list[tuple[Tensor, Tensor, Mapping[int, Tensor]]]:
    """Tensors that hold the mask in any form with fixed values per class; where it is not void; and these values."""
    found = []
    for leaf in tensors_like(batch, mask) or list(tensors_in(batch)):
        shape = mask.squeeze().shape
        if (leaf.is_floating_point() and leaf.squeeze().shape != shape) or leaf.shape[-2:] != mask.shape[-2:]:
            continue
        valid = mask != ignore_index
        pixels = _pixels(leaf, valid)
        values = {label: _value_of(pixels[..., (mask == label).to(leaf.device)]) for label in labels}
        if all(value is not None for value in values.values()):
            found.append((leaf, valid, {label: value for label, value in values.items() if value is not None}))
    return [each for each in found if _are_different(each[2])]


def _pixels(leaf: Tensor, valid: Tensor) -> Tensor:
    """A view of a tensor whose last dimensions are those of the mask."""
    return leaf if leaf.shape[-2:] == valid.shape else leaf.squeeze().view(valid.shape)


def _value_of(pixels: Tensor) -> Tensor | None:
    """What all pixels have, along the last dimension; None if they differ."""
    first = pixels[..., :1]
    return first[..., 0].clone() if bool((pixels == first).all()) else None


def _are_different(values: Mapping[int, Tensor]) -> bool:
    given = [value.flatten().tolist() for value in values.values()]
    return all(one != other for number, one in enumerate(given) for other in given[:number])


def _outputs(trainer: Trainer, module: LightningModule, network: nn.Module, batch: Any, number: int) -> list[object]:
    """What a network returns in a step, call by call."""
    twin, copies = copied(trainer, module, step_name(trainer))
    watched = copies.get(id(network), network)
    found: list[object] = []

    def keep(called: nn.Module, output: object) -> None:
        found.append(output)

    with recorded([watched], returned=keep):
        take_step(trainer, twin, number, batch)
    return found


@contextlib.contextmanager
def _restored(network: nn.Module) -> Iterator[None]:
    """Gives a module its `forward` back; it may be one that is not copied."""
    own = network.__dict__.get("forward")
    try:
        yield
    finally:
        network.__dict__.pop("forward", None)
        if own is not None:
            network.__dict__["forward"] = own
