"""The images that are attacked are among those that the loaders of the validation would give."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from callbacks.tiny import SPACE, OtherProject, TinyPairs, TinyScenes, loader, make_trainer, tiny_network
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, Sampler, Subset
from torch.utils.data import SubsetRandomSampler as RandomSubset

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation
from segrobust.callbacks.loader_keys import joined_keys, keys_of
from segrobust.tasks import SegmentationTask

VALIDATION = [7, 2, 5, 3]


class Noted(TinyScenes):
    """Notes which samples are read while no loader reads."""

    def __init__(self, size: int = 9) -> None:
        super().__init__(size)
        self.read: list[int] = []

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Shuffling(Sampler[int]):
    """Shuffles its own list with its own generators, and counts."""

    def __init__(self) -> None:
        self.indices, self.epoch = list(VALIDATION), 0
        self.generators = random.Random(3)
        self.generator = np.random.default_rng(3)

    def __iter__(self):
        self.epoch += 1
        self.generators.shuffle(self.indices)
        self.generator.shuffle(self.indices)
        return iter(self.indices)


class Plain:
    """A batch sampler that is no `Sampler`."""

    def __iter__(self):
        return iter([VALIDATION[:3], VALIDATION[3:]])

    def __len__(self):
        return 2


def generator():
    return torch.Generator().manual_seed(1)


LOADERS = {
    "subset": lambda data: DataLoader(data, batch_size=2, sampler=RandomSubset(VALIDATION)),
    "own generator": lambda data: DataLoader(data, batch_size=2, sampler=RandomSubset(VALIDATION, generator())),
    "batch sampler": lambda data: DataLoader(data, batch_sampler=BatchSampler(Shuffling(), 2, drop_last=False)),
    "no sampler class": lambda data: DataLoader(data, batch_sampler=Plain()),
    "list": lambda data: DataLoader(data, batch_size=2, sampler=VALIDATION),
    "numpy": lambda data: DataLoader(data, batch_size=3, sampler=np.array(VALIDATION)),
}


def task():
    return SegmentationTask(tiny_network())


def evaluation(**settings):
    defaults = {"max_images": None, "panels": 0, "checks": False, "every_n_epochs": 1, "batch_size": 1}
    return RobustnessEvaluation({"fgsm": FGSM()}, **(defaults | settings))


@pytest.mark.parametrize("kind", LOADERS)
def test_images_outside_of_the_sampler_are_never_read(tmp_path, kind):
    data, robust = Noted(), evaluation()
    trainer = make_trainer(tmp_path, robust, use_distributed_sampler=False)
    trainer.validate(task(), LOADERS[kind](data), verbose=False)
    assert {*data.read} == {*VALIDATION}
    assert trainer.callback_metrics["val/fgsm/miou_at_4"] < trainer.callback_metrics["val/robust_subset/clean_miou"]


@pytest.mark.parametrize("kind", LOADERS)
def test_reading_the_keys_leaves_the_sampler_as_it_is(kind):
    data = TinyScenes(9)
    untouched, read = LOADERS[kind](data), LOADERS[kind](data)
    state = torch.get_rng_state()
    keys = keys_of(read, float("inf"), seed=0)
    assert torch.equal(state, torch.get_rng_state())
    assert sorted(keys) == sorted(VALIDATION)
    assert keys == keys_of(read, float("inf"), seed=0)
    for each in (untouched, read):
        torch.manual_seed(4)
        each.order = [index for batch in each.batch_sampler for index in batch]
    assert read.order == untouched.order


def test_batches_beyond_the_limit_and_outside_of_a_subset_are_left_out(tmp_path):
    for data, expected in ((Noted(), {0, 1, 2, 3}), (Subset(inner := Noted(), VALIDATION), {*VALIDATION})):
        trainer = make_trainer(tmp_path, evaluation(), limit_val_batches=2)
        trainer.validate(task(), loader(data), verbose=False)
        assert {*(data if isinstance(data, Noted) else inner).read} == expected


def test_a_sampler_with_random_order_has_one_choice_for_all_epochs(tmp_path):
    robust, chosen = evaluation(max_images=2, every_n_epochs=1), []
    data = TinyScenes(9)
    val = DataLoader(data, batch_size=2, sampler=RandomSampler(data, generator=generator()))
    trainer = make_trainer(tmp_path, robust, max_epochs=3, limit_val_batches=2)
    inner = robust._session

    def session(trainer, network):
        made = inner(trainer, network)
        chosen.append([made.dataset.parts[0].keys[index] for index in made.samples])
        return made

    robust._session = session
    trainer.fit(task(), loader(data), val)
    assert len(chosen) == 3
    assert chosen[0] == chosen[1] == chosen[2]


class Boxes(Dataset[Any]):
    """Is indexed by boxes, as data sets of maps are, and knows no positions."""

    label_space = SPACE

    def __getitem__(self, box: tuple[slice, slice]):
        assert isinstance(box, tuple)
        sample = TinyScenes(1)[0]
        return {"image": sample["image"][:, *box], "mask": sample["mask"][box], "sample_id": 0}


class Grid(Sampler[Any]):
    def __iter__(self):
        return iter([(slice(0, 16), slice(start, start + 16)) for start in (0, 8, 16)])

    def __len__(self):
        return 3


def test_data_that_are_indexed_by_boxes_are_read_by_their_sampler(tmp_path):
    robust = evaluation()
    trainer = make_trainer(tmp_path, robust)
    trainer.validate(task(), DataLoader(Boxes(), batch_size=2, sampler=Grid()), verbose=False)
    assert "val/fgsm/miou_at_4" in trainer.callback_metrics


def test_keys_of_several_processes_are_those_of_one():
    boxes = [(slice(0, 2), slice(n, n + 2)) for n in range(5)]
    assert joined_keys([boxes[0::2], [*boxes[1::2], boxes[0]]]) == boxes
    assert joined_keys([[3, 0], [5, 3]]) == [0, 3, 5]


class Stream(IterableDataset[Any]):
    def __iter__(self):
        return iter([TinyScenes()[index] for index in range(6)])


def test_images_can_be_named_where_loaders_cannot_be_read(tmp_path):
    with pytest.raises(TypeError, match=r"Stream cannot be read by position.*data=list\(itertools"):
        make_trainer(tmp_path, evaluation()).validate(task(), DataLoader(Stream(), batch_size=2), verbose=False)
    once = DataLoader(TinyScenes(), batch_size=2, sampler=iter([1, 2]))
    with pytest.raises(ValueError, match="list_iterator, which can be read once only"):
        make_trainer(tmp_path, evaluation()).validate(task(), once, verbose=False)
    robust = evaluation(data=[TinyScenes()[index] for index in (1, 4)])
    trainer = make_trainer(tmp_path, robust)
    trainer.validate(task(), DataLoader(Stream(), batch_size=2), verbose=False)
    assert "val/fgsm/miou_at_4" in trainer.callback_metrics


def test_another_split_of_the_same_data_is_other_data(tmp_path):
    prints = []
    for sampler in (None, [0, 1], [1, 2]):
        data = TinyScenes()
        data.fingerprint = lambda: "same"
        robust = evaluation(max_images=1)
        inner = robust._session
        robust._session = lambda *given, inner=inner: prints.append(inner(*given)) or prints[-1]
        make_trainer(tmp_path, robust).validate(task(), DataLoader(data, sampler=sampler), verbose=False)
    assert len({session.manifest.data for session in prints}) == 3
    assert prints[0].manifest.data == "same"


def test_absent_classes_and_void_are_reported_and_foreign_values_refused(tmp_path, caplog):
    caplog.set_level("INFO")
    data = TinyPairs()
    data.scenes.masks[data.scenes.masks == 2] = 0
    robust = evaluation(network="parts.model", image=0, mask=1, ignore_index=-1)
    make_trainer(tmp_path, robust).validate(OtherProject(), loader(data), verbose=False)
    assert "2 of 3 classes occur (absent: 2); 3.1% of the pixels are void (-1)" in caplog.text
    robust = evaluation(network="parts.model", image=0, mask=1, ignore_index=77)
    with pytest.raises(ValueError, match=r"neither a class nor void: -1 \(.*ignore_index=77"):
        make_trainer(tmp_path, robust).validate(OtherProject(), loader(data), verbose=False)
