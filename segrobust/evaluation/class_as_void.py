"""A data set in which a class is void."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from segrobust.evaluation.dataset import SampleSource, describe_data, label_space_of, load_sample


class ClassAsVoid:
    """Another data set, one of whose classes is void beside what is void already.

    Args:
        dataset: with a label space.
        label: index of the class, which is the label of all void pixels.

    Raises:
        ValueError: the data set has no label space, or no such class.
    """

    def __init__(self, dataset: SampleSource, label: int) -> None:
        space = label_space_of(dataset)
        if space is None or not 0 <= label < space.num_classes:
            raise ValueError(f"there is no class {label} to leave out")
        self.dataset = dataset
        self.label_space = replace(space, ignore_index=label)
        self._void = space.ignore_index

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        sample = load_sample(self.dataset, index)
        void = torch.where(sample.mask == self._void, self.label_space.ignore_index, sample.mask)
        return {"image": sample.image, "mask": void}

    def describe(self) -> str:
        """The line of the other data set, and which class is void."""
        return f"{describe_data(self.dataset)}, class {self.label_space.void_class!r} as void"

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # asked for before it is set, when a copy is made
            raise AttributeError(name)
        return getattr(self.dataset, name)
