"""The keys of the samples that a loader would give, found without reading samples and without advancing the loader."""

import copy
import operator
import random
from collections.abc import Iterable, Iterator
from itertools import chain, islice, zip_longest
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.distributed import _DatasetSamplerWrapper
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import Sampler

Key = Any
"""What a sampler yields and a data set is indexed by: mostly a position, a bounding box in torchgeo."""

_MOST_KEYS = 10_000_000
"""A sampler without length that gives more is taken for one without end."""

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_MISSING = object()


def keys_of(loader: Any, max_batches: float, seed: int) -> list[Key]:
    """The keys of the samples in the first batches of a loader with a sampler, in its order.

    Samplers that draw at random draw from `seed`, or from a copy of their own generator; states of generators, counters
    and lists of the samplers stay as they are.

    Args:
        loader: a `DataLoader`, or something with its `sampler` and `batch_sampler`.
        max_batches: how many batches are read; infinity for all.
        seed: of global generators while the sampler is read.

    Raises:
        ValueError: a sampler that can be read once only, or without end.
    """
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    with isolate_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the global state, which samplers may read
        given: Iterator[Any] = iter(_copied(sampler))
        if max_batches != float("inf"):
            given = islice(given, int(max_batches))
        single = given if loader.batch_sampler is None else chain.from_iterable(given)
        keys = [_plain(key) for key in islice(single, _MOST_KEYS + 1)]
    if len(keys) > _MOST_KEYS:
        raise ValueError(
            f"{type(sampler).__name__} has no end: set limit_val_batches of the Trainer, or name the images by data="
        )
    return keys


def joined_keys(shares: Iterable[list[Key]]) -> list[Key]:
    """The keys of all processes, each once: positions in ascending order, other keys in that of a single process.

    Args:
        shares: the keys of each process; distributed samplers deal them out in turn, and repeat some at the end.
    """
    keys = [key for row in zip_longest(*shares, fillvalue=_MISSING) for key in row if key is not _MISSING]
    if all(isinstance(key, int) for key in keys):
        return sorted({*keys})
    once: dict[str, Key] = {}
    for key in keys:
        once.setdefault(repr(key), key)
    return list(once.values())


def _plain(key: Key) -> Key:
    """Positions as plain integers."""
    try:
        return operator.index(key)
    except TypeError:
        return key


def _copied(sampler: Any) -> Any:
    """A sampler that can be iterated without any effect on the original; the data that it refers to are shared.

    Raises:
        ValueError: an iterator, which can be read once only.
    """
    if isinstance(sampler, Iterator):
        raise ValueError(
            f"the sampler of a validation loader is a {type(sampler).__name__}, which can be read once only: give the "
            "DataLoader a list or a Sampler"
        )
    twin = copy.copy(sampler)
    for name, value in getattr(sampler, "__dict__", {}).items():
        twin.__dict__[name] = _copied_part(name, value)
    return twin


def _copied_part(name: str, value: Any) -> Any:
    """An attribute of a sampler: samplers, generators and containers are copied, everything else is shared."""
    if isinstance(value, list | tuple) and any(isinstance(part, Sampler) for part in value):
        return type(value)(_copied_part(name, part) for part in value)
    if isinstance(value, Sampler | _DatasetSamplerWrapper) or ("sampler" in name and hasattr(value, "__iter__")):
        return _copied(value)
    if isinstance(value, _GENERATORS):
        return copy.deepcopy(value)
    return copy.copy(value) if isinstance(value, list | dict | set | np.ndarray) else value
