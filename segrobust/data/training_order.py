"""The order and the randomness of training samples, as functions of seed, epoch and position.

A training that was interrupted, in the middle of an epoch too, goes on with the batches that it would have seen, and
the number of loading processes or of devices does not change what is done to a sample.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from segrobust.data.segmentation_dataset import Sample, SegmentationDataset


class EpochShuffle(Sampler[int]):
    """All positions in an order that depends on seed and epoch alone; Lightning gives the epoch by `set_epoch`.

    It is the order of torch's `DistributedSampler`, so that N processes with batches of B see together what one process
    with batches of N B sees.

    Args:
        num_samples: number of positions.
        seed: of the order.
    """

    def __init__(self, num_samples: int, seed: int) -> None:
        self.epoch = 0
        self._num_samples = num_samples
        self._seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self.epoch)
        return iter(torch.randperm(self._num_samples, generator=generator).tolist())

    def __len__(self) -> int:
        return self._num_samples


class ResumableBatches(BatchSampler):
    """Batches of positions that carry the epoch, the first time without the first `skip` batches.

    Lightning makes a distributed sampler in the place of the given one, and this class around it anew.

    Args:
        sampler: gives positions, and knows its `epoch`.
        batch_size: positions per batch.
        drop_last: leave out the last batch where it is not full.
    """

    sampler: Any

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.skip = 0

    def __iter__(self) -> Iterator[Any]:
        skip, self.skip = self.skip, 0
        for position, batch in enumerate(super().__iter__()):
            if position >= skip:
                yield [(getattr(self.sampler, "epoch", 0), index) for index in batch]


class SeededSamples(Dataset[Sample]):
    """A data set whose random transforms draw from a seed of their own for every sample of every epoch.

    Args:
        dataset: the data set.
        seed: of the training.
    """

    def __init__(self, dataset: SegmentationDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, drawn: Any) -> Sample:
        epoch, index = drawn
        with torch.random.fork_rng(devices=[]):
            # Not `torch.manual_seed`, which would seed the generators of all devices, and dropout there with them.
            torch.default_generator.manual_seed(_mixed(self.seed, epoch, index))
            return self.dataset[index]

    def __len__(self) -> int:
        return len(self.dataset)


class ResumableLoader(DataLoader[Sample]):
    """A loader that knows how many batches it has given in this epoch, and can start behind them."""

    _given = 0

    def state_dict(self) -> dict[str, int]:
        """Batches given in this epoch."""
        return {"given": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Starts behind the batches that were given, unless all were."""
        assert isinstance(self.batch_sampler, ResumableBatches)
        self.batch_sampler.skip = state["given"] % len(self)

    def __iter__(self) -> Any:
        """A generator, so that nothing is read before the first batch is asked for, and the epoch is known by then."""
        assert isinstance(self.batch_sampler, ResumableBatches)
        self._given = self.batch_sampler.skip
        for batch in super().__iter__():
            self._given += 1
            yield batch


def _mixed(*numbers: int) -> int:
    """One seed from several."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
