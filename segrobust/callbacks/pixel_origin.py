"""Which pixel of a mask each element of a tensor belongs to, followed through operations that move elements."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils._pytree import tree_map

MOVING = frozenset(
    "__getitem__ chunk contiguous expand expand_as flatten flip fliplr flipud index_select masked_select moveaxis "  # noqa: SIM905
    "movedim narrow permute ravel repeat reshape roll rot90 select split squeeze swapaxes swapdims t take "
    "tensor_split transpose unbind unflatten unsqueeze view".split()
)
"""Functions that move, leave out or repeat elements."""


def origin_of(tensor: Tensor, size: tuple[int, int]) -> Tensor | None:
    """The flat position of the pixel of each element, in the shape of the tensor.

    Args:
        tensor: of a batch of one image.
        size: height and width of the mask.

    Returns:
        None for a tensor that has neither one element per pixel nor the mask's size as its last dimensions.
    """
    count = size[0] * size[1]
    pixels = torch.arange(count)
    if tensor.shape[-2:] == size:
        return pixels.view(size).expand(tensor.shape)
    return pixels.view(tensor.shape) if tensor.numel() == count else None


def moved_origin(
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    source: Tensor,
    origin: Tensor,
    output: Any,
) -> Any:
    """Origins of the elements of an operation's output.

    Args:
        func: the operation, of torch.
        args: its arguments.
        kwargs: its arguments by name.
        source: the argument whose elements are followed.
        origin: of the elements of `source`, in its shape.
        output: what the operation returned.

    Returns:
        For a function that moves elements, what it makes of the origins: in the structure of its output. For others a
        function of an output's shape: see `spread_origin`.
    """
    nearest = func is interpolate and "nearest" in kwargs.get("mode", "nearest") and len(args) < 4
    if nearest or getattr(func, "__name__", "") in MOVING:
        moved = origin.double() if nearest else origin
        args, kwargs = tree_map(lambda leaf: moved if leaf is source else _on_cpu(leaf), (tuple(args), kwargs))
        try:
            result = func(*args, **kwargs)
            return result.long() if nearest else result
        except (RuntimeError, TypeError, IndexError, ValueError):
            pass
    return tree_map(lambda leaf: spread_origin(origin, leaf.shape) if isinstance(leaf, Tensor) else None, output)


def spread_origin(origin: Tensor, shape: torch.Size) -> Tensor | None:
    """Origins after an operation element by element, along one dimension, or that adds one at the end.

    Args:
        origin: of the elements before it.
        shape: of the tensor after it.

    Returns:
        None if the pixels of the elements cannot be known.
    """
    if origin.shape == shape:
        return origin
    try:
        return origin.broadcast_to(shape)
    except RuntimeError:
        pass
    if origin.shape == shape[:-1]:
        return origin.unsqueeze(-1).expand(shape)
    for dim in range(origin.ndim):
        first = origin.select(dim, 0) if origin.shape[dim] else None
        if first is not None and bool((origin == first.unsqueeze(dim)).all()):
            if first.shape == shape:
                return first
            if first.unsqueeze(dim).shape == shape:
                return first.unsqueeze(dim)
    return None


def _on_cpu(leaf: Any) -> Any:
    return leaf.cpu() if isinstance(leaf, Tensor) else leaf
