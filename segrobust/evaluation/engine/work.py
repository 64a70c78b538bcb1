"""Which process evaluates which images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch.distributed.distributed_c10d import Store


class WorkSource(Protocol):
    """Hands out the ids of samples, one batch at a time, on request.

    The engine never joins two batches, so that batches, and with them results to the last bit, do not depend on the
    number of processes. Over all processes each id is handed out at least once; a second time costs time but changes no
    result.
    """

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """Ids of batches for this process."""
        ...


def batches_of(ids: Sequence[int], size: int) -> tuple[tuple[int, ...], ...]:
    """The ids in their order, `size` at a time.

    Raises:
        ValueError: a size below 1.
    """
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {size}")
    return tuple(tuple(ids[start : start + size]) for start in range(0, len(ids), size))


@dataclass(frozen=True)
class StridedWork:
    """Every `world_size`-th batch, starting with batch `rank`: processes need no communication.

    All processes must get the same ids. The runner skips existing records, not this class, so that processes that start
    at different times agree.

    Args:
        ids: ids of samples, the same in all processes.
        rank: number of this process.
        world_size: number of processes.
        batch_size: samples that are handed out together.

    Raises:
        ValueError: a rank outside 0..world_size - 1, or a batch size below 1.
    """

    ids: Sequence[int]
    rank: int = 0
    world_size: int = 1
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in 0..world_size - 1 = {self.world_size - 1}, got {self.rank}")
        batches_of((), self.batch_size)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """Ids of batches for this process."""
        # A stride over batches, not over ids: a batch has the same images whatever the number of processes.
        return iter(batches_of(self.ids, self.batch_size)[self.rank :: self.world_size])


@dataclass(frozen=True)
class SharedWork:
    """The next batch for each request, by a counter that all processes share: fast processes take more.

    Iterating takes batches from all processes, so each process does it once.

    Args:
        ids: ids of samples, the same in all processes.
        store: a store of `torch.distributed` that all processes reach.
        batch_size: samples that are handed out together.
        counter: key of the counter in the store.
    """

    ids: Sequence[int]
    store: Store
    batch_size: int = 1
    counter: str = "next_batch"

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """Ids of batches for this process."""
        batches = batches_of(self.ids, self.batch_size)
        # `add` is atomic and returns the new value, so that no two processes get the same batch.
        while (number := self.store.add(self.counter, 1) - 1) < len(batches):
            yield batches[number]


def choose_samples(num_samples: int, max_images: int | None, seed: int) -> tuple[int, ...]:
    """Positions of the samples to evaluate, ascending: all, or a random subset that depends on the seed alone.

    Subsets of one seed are nested: a larger `max_images` adds samples and drops none.

    Raises:
        ValueError: no sample, or `max_images` below 1.
    """
    if num_samples < 1:
        raise ValueError("the data set holds no sample")
    if max_images is None:
        return tuple(range(num_samples))
    if max_images < 1:
        raise ValueError(f"max_images must be at least 1, or None for all, got {max_images}")
    return tuple(sorted(np.random.default_rng(seed).permutation(num_samples)[:max_images].tolist()))
