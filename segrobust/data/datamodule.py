"""One LightningDataModule for every data set."""

import functools
import os
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from segrobust.data.segmentation_dataset import Sample, SegmentationDataset, collate, pad_collate
from segrobust.data.training_order import EpochShuffle, ResumableBatches, ResumableLoader, SeededSamples
from segrobust.label_space import LabelSpace


class SegmentationDataModule(LightningDataModule):
    """Loaders around data sets that are given as objects, or as `class_path` and `init_args` in YAML.

    Nothing is shuffled or random except training. Nothing goes into hyper-parameters: what was read is in the
    configuration and in `SegmentationDataset.fingerprint`.

    Args:
        val: evaluated while training, and by `validate`.
        train: what `fit` learns from; None where nothing is trained.
        test: what `test` reads.
        batch_size: training samples per step and process.
        eval_batch_size: validation and test samples per step and process.
        num_workers: loading processes per loader; 0 loads in the main process.
        drop_last: leave out the last training batch where it is not full.
        pad: training images of different sizes share a batch, padded with void. Validation and test images are never
            padded: give them one size, or `eval_batch_size: 1`.

    Raises:
        ValueError: label spaces differ, a batch size below 1, a negative `num_workers`, `drop_last` with fewer training
            samples than one batch, or `pad` without training data.
    """

    def __init__(
        self,
        *,
        val: SegmentationDataset,
        train: SegmentationDataset | None = None,
        test: SegmentationDataset | None = None,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int = 2,
        drop_last: bool = True,
        pad: bool = False,
    ) -> None:
        super().__init__()
        if min(batch_size, eval_batch_size) < 1 or num_workers < 0:
            raise ValueError(
                f"batch sizes must be at least 1 and num_workers at least 0, got batch_size={batch_size}, "
                f"eval_batch_size={eval_batch_size}, num_workers={num_workers}"
            )
        if pad and train is None:
            raise ValueError("pad=True pads training batches, but there is no training data; leave it out")
        if train is not None and drop_last and len(train) < batch_size:
            raise ValueError(
                f"{train.describe()}: fewer samples than batch_size={batch_size}, so that drop_last=True leaves no "
                f"batch; lower batch_size or set drop_last=False"
            )
        for other, what in ((train, "train"), (test, "test")):
            if other is not None:
                val.label_space.require_equal(
                    other.label_space, f"val data, {val.describe()}", f"{what} data, {other.describe()}"
                )
        self.train = train
        self.val = val
        self.test = test
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.drop_last = drop_last
        self.pad = pad

    @property
    def label_space(self) -> LabelSpace:
        """The label space that all data sets share."""
        return self.val.label_space

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled batches, by the seed of `lightning.seed_everything`; see `segrobust.data.training_order`.

        Raises:
            ValueError: there is no training data set.
        """
        if self.train is None:
            raise ValueError("this data module has no training data; pass train=..., a data set")
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # of `seed_everything`; Lightning's samplers read it here too
        ignore_index = self.label_space.ignore_index
        return ResumableLoader(
            SeededSamples(self.train, seed),
            batch_sampler=ResumableBatches(EpochShuffle(len(self.train), seed), self.batch_size, self.drop_last),
            collate_fn=functools.partial(pad_collate, ignore_index=ignore_index) if self.pad else collate,
            **self._loading(),
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Validation samples in order, none left out."""
        return self._loader(self.val, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Test samples in order, none left out.

        Raises:
            ValueError: there is no test data set.
        """
        if self.test is None:
            raise ValueError("this data module has no test data; pass test=..., or run `validate`")
        return self._loader(self.test, self.eval_batch_size)

    def _loader(self, dataset: SegmentationDataset, batch_size: int) -> DataLoader[Sample]:
        return DataLoader(dataset, batch_size=batch_size, collate_fn=collate, **self._loading())

    def _loading(self) -> dict[str, Any]:
        """Arguments of every loader; a generator of its own, so that an epoch draws nothing from the global one."""
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "generator": torch.Generator(),
        }
