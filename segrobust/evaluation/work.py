"""Who evaluates which images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class WorkSource(Protocol):
    """Hands out the ids of samples, one at a time, when they are asked for.

    Over all processes each id is handed out at least once. An id that comes twice costs time but changes no result.
    """

    def __iter__(self) -> Iterator[int]:
        """The ids of this process."""
        ...


@dataclass(frozen=True)
class StridedWork:
    """Every `world_size`-th of the ids, from `rank` on.

    All processes must be given the same ids; what is done already is skipped by the runner, not here, so that processes
    that start at different moments agree.

    Args:
        ids: ids of samples, the same in all processes.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        ValueError: a rank outside 0..world_size - 1.
    """

    ids: Sequence[int]
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in 0..world_size - 1 = {self.world_size - 1}, got {self.rank}")

    def __iter__(self) -> Iterator[int]:
        """The ids of this process."""
        return iter(self.ids[self.rank :: self.world_size])


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
