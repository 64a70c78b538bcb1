"""Follows predictions and masks through a step, to the operations that compare them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from segrobust.callbacks.pixel_origin import MOVING, moved_origin, origin_of, spread_origin

_CASTS = frozenset("__get__ byte clone cpu cuda detach double float half int long to type type_as".split())  # noqa: SIM905  one line
"""Functions that leave values as they are."""

_PRODUCTS = frozenset("__imul__ __mul__ __rmul__ mul mul_ multiply".split())  # noqa: SIM905  one line
"""Functions that scale classes, as confusion matrices do, and weight indicators."""

_JOINING = frozenset("cat concat concatenate stack hstack vstack dstack".split())  # noqa: SIM905  one line
"""Functions that put tensors beside each other, as for pictures."""

_REDUCED = 64
"""Tensors with this many times fewer elements than pixels are sums and counts."""

_CHOOSING = frozenset("__getitem__ __setitem__ where masked_fill masked_fill_ masked_select".split())  # noqa: SIM905  one line
"""Functions that choose elements by truth values."""

_IGNORING = frozenset(("cross_entropy", "nll_loss"))
"""Losses of torch with the argument `ignore_index`."""


@dataclass(frozen=True)
class Classes:
    """Class values of some pixels.

    Attributes:
        values: one per element, flat.
        pixels: flat position of the pixel of each.
    """

    values: Tensor
    pixels: Tensor


@dataclass(eq=False)
class Comparison:
    """Predictions and masks that are compared.

    Attributes:
        hard: whether predictions are classes, as in a metric; those of losses are numbers per class.
        mask: what the mask's values are there; None if that cannot be known.
        predicted: what the predicted classes are there; None if that cannot be known.
        counted: flat positions of the pixels that count; None if they cannot be known.
        chosen: flat positions of the pixels that are predicted as some class, where only these are compared.
        ignored: the value that a loss leaves out.
        indicated: whether the mask is given by truth values, one per pixel.
        reduced: whether something without pixels, such as a sum, is computed from the result.
        narrowed: whether something with pixels is computed from it, which is a comparison of its own.
    """

    hard: bool
    mask: Classes | None
    predicted: Classes | None
    counted: Tensor | None
    chosen: Tensor | None = None
    ignored: int | None = None
    indicated: bool = False
    reduced: bool = False
    narrowed: bool = False


@dataclass(frozen=True, eq=False)
class _Trace:
    """What is known of a tensor.

    Attributes:
        kind: "predicted", "mask", or "both".
        origin: see `origin_of`; None if unknown.
        classes: class values of the last tensor on the way that had any; None if there was none.
        is_classes: whether the tensor itself has one class value per element, and not products or indicators of them.
        indicates: whether the tensor of a mask has truth values, or is computed from these alone.
        hard: whether predictions are classes.
        comparison: the last one on the way.
    """

    kind: str
    origin: Tensor | None
    classes: Classes | None = None
    is_classes: bool = False
    indicates: bool = False
    hard: bool = False
    comparison: Comparison | None = None


@dataclass
class _Operation:
    """One call of a function of torch on traced tensors."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[tuple[Tensor, _Trace]]
    before: list[Classes | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(getattr(self.func, "__name__", ""))

    def classes_of(self, source: tuple[Tensor, _Trace]) -> Classes | None:
        """Class values of an input, as they were before the operation."""
        return self.before[next(number for number, each in enumerate(self.inputs) if each is source)]

    def of(self, kind: str) -> list[tuple[Tensor, _Trace]]:
        return [each for each in self.inputs if each[1].kind == kind]


class MaskFlow(TorchFunctionMode):
    """While it is entered, follows marked tensors through all functions of torch.

    Attributes:
        comparisons: those that were seen.
        size: height and width of the mask.
        valid: flat positions of its pixels that are not void.
    """

    def __init__(self, size: tuple[int, int], valid: Tensor) -> None:
        super().__init__()
        self.comparisons: list[Comparison] = []
        self.size = size
        self.valid = valid
        self._traces: Any = WeakIdKeyDictionary()
        self._known: Any = WeakIdKeyDictionary()
        self._unused: dict[_Trace, Classes] = {}

    def mark_mask(self, tensor: Tensor) -> None:
        """Follows a tensor of a batch that holds the mask."""
        whole = tensor.numel() == self._count
        trace = _Trace("mask", origin_of(tensor, self.size), is_classes=whole, indicates=not whole)
        self._put(tensor, trace)
        self._await(tensor, trace)

    def mark_predictions(self, output: Any) -> None:
        """Follows what a network returned."""
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._put(tensor, _Trace("predicted", origin_of(tensor, self.size)))

    def left_over(self, kind: str) -> list[Classes]:
        """Class values of masks, or of predictions, from which nothing was computed: they may be compared later."""
        return [classes for trace, classes in self._unused.items() if trace.kind == kind]

    @property
    def _count(self) -> int:
        return self.size[0] * self.size[1]

    def _classes_of(self, tensor: Tensor, trace: _Trace) -> Classes | None:
        """Class values of a tensor, found once until it is written to."""
        if tensor.is_inference():
            return _classes_of(tensor, trace)
        known = self._known.get(tensor)
        if known is None or known[:2] != (trace, tensor._version):
            known = self._known[tensor] = (trace, tensor._version, _classes_of(tensor, trace))
        classes: Classes | None = known[2]
        return classes

    def _await(self, tensor: Tensor, trace: _Trace) -> None:
        """Keeps class values of a mask until they are used."""
        if trace.is_classes and trace.origin is not None:
            self._unused[trace] = Classes(tensor.detach().cpu().flatten().clone(), trace.origin.flatten())

    def _put(self, tensor: Tensor, trace: _Trace) -> None:
        self._traces[tensor] = trace

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls the function unchanged, and follows its output."""
        given = dict(kwargs or {})
        leaves = (leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor))
        inputs = [(leaf, self._traces[leaf]) for leaf in leaves if leaf in self._traces]
        operation = _Operation(func, args, given, inputs) if inputs else None
        if operation is not None:
            operation.before = [self._classes_of(*each) for each in inputs]
        output = func(*args, **given)
        if operation is not None:
            self._follow(operation, args[0] if operation.name == "__setitem__" else output)
        return output

    def _follow(self, operation: _Operation, output: Any) -> None:
        results = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if not results or self._ends(operation, results):
            return
        masks, both = operation.of("mask"), operation.of("both")
        predicted = operation.of("predicted")
        if both:
            self._narrow(operation, both[0], masks, output)
        elif masks and predicted and not self._selects(operation, masks):
            self._compare(operation, masks, predicted, results)
        elif predicted:
            self._derive(operation, predicted[0], output)
        else:
            self._derive(operation, _main(masks), output)

    def _ends(self, operation: _Operation, results: list[Tensor]) -> bool:
        """Whether an operation makes numbers or pictures, which are not followed."""
        for _, trace in operation.of("both"):
            assert trace.comparison is not None
            if all(result.numel() * _REDUCED < self._count for result in results):
                trace.comparison.reduced = True
        if all(result.numel() * _REDUCED < self._count for result in results):
            return True
        colours = operation.name == "__getitem__" and any(
            isinstance(operation.args[1], Tensor) and operation.args[1] is index and results[0].ndim > index.ndim
            for index, _ in operation.inputs
        )
        return colours or (operation.name in _JOINING and len({trace.kind for _, trace in operation.inputs}) > 1)

    def _selects(self, operation: _Operation, masks: list[tuple[Tensor, _Trace]]) -> bool:
        """Whether masks only choose pixels of the predictions, or leave out void."""
        if operation.name in _CHOOSING and all(mask.dtype == torch.bool for mask, _ in masks):
            return True
        return all(
            trace.indicates and mask.numel() <= self._count and self._is_whole(mask, trace) for mask, trace in masks
        )

    def _is_whole(self, mask: Tensor, trace: _Trace) -> bool:
        """Whether truth values, one per pixel, are true for all that is not void."""
        counted = _counted(mask, trace) if trace.indicates and mask.numel() <= self._count else None
        return counted is not None and bool(torch.isin(self.valid, counted).all())

    def _origins(self, operation: _Operation, source: tuple[Tensor, _Trace], output: Any) -> list[Any]:
        """An output's tensors with the origins of their elements."""
        tensor, trace = source
        results = tree_leaves(output)
        origins: list[Any] = []
        if trace.origin is not None and operation.name == "__getitem__" and operation.args[0] is not tensor:
            origins = [spread_origin(trace.origin, result.shape) for result in results]
        elif trace.origin is not None:
            moved = moved_origin(operation.func, operation.args, operation.kwargs, tensor, trace.origin, output)
            origins = tree_leaves(moved)
        if len(origins) != len(results):
            origins = [None] * len(results)
        return [
            (result, origin if origin is not None else origin_of(result, self.size))
            for result, origin in zip(results, origins, strict=True)
            if isinstance(result, Tensor)
        ]

    def _derive(self, operation: _Operation, source: tuple[Tensor, _Trace], output: Any) -> None:
        """Follows what is computed from predictions alone, or from masks alone."""
        _, trace = source
        for result, origin in self._origins(operation, source, output):
            hard = trace.hard or not result.is_floating_point()
            is_classes = origin is not None and self._is_classes(operation, trace, result)
            indicates = result.dtype == torch.bool or "one_hot" in operation.name or "scatter" in operation.name
            indicates = not is_classes and (indicates or trace.indicates)
            derived = _Trace(trace.kind, origin, operation.classes_of(source), is_classes, indicates, hard)
            self._put(result, derived)
            if origin is not None:
                for _, used in operation.inputs:
                    self._unused.pop(used, None)
                self._await(result, derived)

    def _is_classes(self, operation: _Operation, trace: _Trace, result: Tensor) -> bool:
        """Whether a result has one class value per element."""
        if result.dtype == torch.bool or result.numel() > self._count or operation.name in _PRODUCTS:
            return False
        if trace.kind == "predicted" and not trace.hard and result.is_floating_point():
            return False
        return trace.is_classes if operation.name in _CASTS | MOVING else True

    def _compare(
        self,
        operation: _Operation,
        masks: list[tuple[Tensor, _Trace]],
        predicted: list[tuple[Tensor, _Trace]],
        results: list[Tensor],
    ) -> None:
        """Notes that an operation takes predictions and masks."""
        truth, guess = _main(masks), predicted[0]
        (mask, seen), (prediction, guessed) = truth, guess
        comparison = Comparison(
            guessed.hard,
            operation.classes_of(truth),
            operation.classes_of(guess),
            _counted(mask, seen),
            ignored=operation.kwargs.get("ignore_index") if operation.name in _IGNORING else None,
            indicated=seen.indicates and mask.numel() <= self._count,
        )
        if comparison.indicated and prediction.dtype == torch.bool and guessed.origin is not None:
            comparison.chosen = torch.unique(guessed.origin[prediction.cpu()])
        self.comparisons.append(comparison)
        for _, used in operation.inputs:
            self._unused.pop(used, None)
        for result in results:
            origin = _first_origin(result, (seen.origin, guessed.origin), self.size)
            self._put(result, _Trace("both", origin, comparison=comparison))

    def _narrow(
        self,
        operation: _Operation,
        source: tuple[Tensor, _Trace],
        masks: list[tuple[Tensor, _Trace]],
        output: Any,
    ) -> None:
        """Follows the result of a comparison: a mask may choose pixels of it."""
        _, trace = source
        comparison = trace.comparison
        assert comparison is not None
        for result, origin in self._origins(operation, source, output):
            if origin is None:
                comparison.reduced = True
                continue
            counted = torch.unique(origin)
            for mask, seen in masks:
                chosen = _counted(mask, seen) if mask.dtype == torch.bool else None
                if chosen is not None and operation.name != "__getitem__":
                    counted = counted[torch.isin(counted, chosen)]
            if comparison.counted is not None:
                counted = counted[torch.isin(counted, comparison.counted)]
            comparison.narrowed = True
            child = replace(comparison, counted=counted, reduced=False, narrowed=False)
            self.comparisons.append(child)
            self._put(result, _Trace("both", origin, comparison=child))


def _classes_of(tensor: Tensor, trace: _Trace) -> Classes | None:
    """Class values that a tensor has, or was made from; as they are before an operation, which may change them."""
    if trace.is_classes and trace.origin is not None:
        return Classes(tensor.detach().cpu().flatten().clone(), trace.origin.flatten())
    if trace.kind == "predicted" and not trace.hard and trace.origin is not None and tensor.ndim == 4:
        best = tensor.detach().argmax(1).cpu()
        return Classes(best.flatten(), trace.origin[:, 0].flatten())
    return trace.classes


def _main(masks: list[tuple[Tensor, _Trace]]) -> tuple[Tensor, _Trace]:
    """The tensor with class values among those made from masks."""
    return next((each for each in masks if each[1].is_classes), masks[0])


def _counted(mask: Tensor, trace: _Trace) -> Tensor | None:
    """Pixels of a mask that count: those where it is true, or all of it."""
    if trace.origin is None:
        return None
    pixels: Tensor = torch.unique(trace.origin[mask.detach().cpu() != 0] if trace.indicates else trace.origin)
    return pixels


def _first_origin(result: Tensor, origins: Iterable[Tensor | None], size: tuple[int, int]) -> Tensor | None:
    """The origins that fit a result."""
    fitting = (origin for origin in origins if origin is not None and origin.shape == result.shape)
    return next(fitting, origin_of(result, size))
