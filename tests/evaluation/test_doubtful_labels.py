"""Masks that are nearly certainly a mistake are told before the work; honest ones are not."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from segrobust import evaluate
from segrobust.attacks import PGD
from segrobust.evaluation.dataset import doubt_labels

Samples = list[tuple[Tensor, Tensor]]


def samples(mask: Callable[[Tensor], Tensor], num: int = 4) -> Samples:
    """Images with a mask made of random zeros and ones."""
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randint(0, 2, (8, 8), generator=generator) for _ in range(num)]
    return [(torch.rand(3, 8, 8, generator=generator), mask(labels)) for labels in draw]


def border(labels: Tensor) -> Tensor:
    """No foreground, and void at the same place of every image."""
    result = torch.zeros_like(labels)
    result[:2] = 255
    return result


def padding(labels: Tensor) -> Tensor:
    """No foreground, and void below and on the right, at another width in each image."""
    result = torch.full_like(labels, 255)
    result[: 2 + int(labels.sum()) % 5, : 3 + int(labels[0].sum()) % 4] = 0
    return result


@pytest.mark.parametrize("foreground", [255, 7])
def test_masks_whose_second_class_is_void_are_told(foreground: int) -> None:
    data = samples(lambda labels: labels * foreground)
    network = nn.Conv2d(3, 2, 1)
    with pytest.warns(UserWarning, match=f"class 0 is the only class and 5.% of the pixels are void .{foreground}"):
        evaluate(
            network,
            data,
            attacks={"pgd": PGD(num_steps=1)},
            eps=[0.1],
            ignore_index=foreground,
            progress=False,
            checks="off",
        )


@pytest.mark.parametrize(
    "mask",
    [
        lambda labels: labels,
        torch.zeros_like,
        border,
        lambda labels: torch.where(labels == 0, 255, torch.arange(64).view(8, 8) % 2),
        lambda labels: torch.full_like(labels, 255),
        padding,
    ],
    ids=["two classes", "one class", "a void border", "sparse labels", "all void", "padding"],
)
def test_honest_masks_are_not(mask: Callable[[Tensor], Tensor]) -> None:
    assert doubt_labels(samples(mask), range(4), 255) == ""


def test_one_image_is_no_evidence() -> None:
    assert doubt_labels(samples(lambda labels: labels * 255, num=1), range(1), 255) == ""


def test_an_evaluation_of_honest_masks_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        evaluate(
            nn.Conv2d(3, 2, 1),
            samples(lambda labels: labels),
            attacks={"pgd": PGD(num_steps=1)},
            eps=[0.1],
            progress=False,
            checks="off",
        )
