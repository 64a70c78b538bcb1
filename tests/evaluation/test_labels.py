"""What masks hold is told before the work; masks that are nearly certainly a mistake warn or raise an error."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segrobust import evaluate
from segrobust.attacks import PGD
from segrobust.evaluation.labels import MOST_MASKS, LabelSurvey, survey_labels

Samples = list[tuple[Tensor, Tensor]]


def samples(mask: Callable[[Tensor], Tensor], num: int = 4) -> Samples:
    """Images with a mask made of random zeros and ones."""
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randint(0, 2, (8, 8), generator=generator) for _ in range(num)]
    return [(torch.rand(3, 8, 8, generator=generator), mask(labels)) for labels in draw]


def look(data: Samples, num_classes: int = 2, *, ignore_index: int = 255, most: int = MOST_MASKS) -> LabelSurvey:
    return survey_labels(data, range(len(data)), num_classes=num_classes, ignore_index=ignore_index, most=most)


def attack(data: Samples, num_classes: int = 2, **options: Any) -> None:
    """A short evaluation by a network that is of no interest."""
    attacks = {"pgd": PGD(num_steps=1)}
    evaluate(nn.Conv2d(3, num_classes, 1), data, attacks=attacks, eps=[0.1], checks="off", **options)


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
    with pytest.warns(UserWarning, match=f"class 0 is the only class and 5.% of the pixels are void .{foreground}"):
        attack(samples(lambda labels: labels * foreground), ignore_index=foreground, progress=False)


@pytest.mark.parametrize(
    "mask",
    [
        lambda labels: labels,
        torch.zeros_like,
        border,
        lambda labels: torch.where(labels == 0, 255, torch.arange(64).view(8, 8) % 2),
        padding,
    ],
    ids=["two classes", "one class", "a void border", "sparse labels", "padding"],
)
def test_honest_masks_are_not(mask: Callable[[Tensor], Tensor]) -> None:
    found = look(samples(mask))
    assert (found.doubt, found.foreign) == ("", "")


def test_one_image_is_no_evidence() -> None:
    assert look(samples(lambda labels: labels * 255, num=1)).doubt == ""


def test_masks_without_a_label_are_told() -> None:
    assert "all pixels of 4 masks are void (255)" in look(samples(lambda labels: torch.full_like(labels, 255))).doubt


def test_an_evaluation_of_honest_masks_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        attack(samples(lambda labels: labels), progress=False)


def test_pixels_are_counted_by_hand() -> None:
    masks = [torch.tensor([[0, 2, 2], [255, 255, 7]]), torch.tensor([[2, 2, 2], [2, -1, 7]])]
    found = look([(torch.rand(3, 2, 3), mask) for mask in masks], num_classes=4)
    assert (found.class_pixels, found.void_pixels, found.foreign_pixels) == ((1, 0, 6, 0), 2, {7: 2, -1: 1})
    assert (found.absent, found.void_share) == (("1", "3"), 2 / 12)
    assert found.foreign_names == ("0", "1")
    assert found.describe() == (
        "labels of 2 masks: 2 of 4 classes occur (absent: 1, 3); 16.7% of the pixels are void (255)"
    )


def test_a_class_that_is_left_out_is_void_and_not_absent() -> None:
    found = look(samples(lambda labels: labels), ignore_index=0)
    assert (found.absent, found.class_pixels[0]) == ((), 0)
    assert found.void_pixels + found.class_pixels[1] == 4 * 64


@pytest.mark.parametrize(
    ("mask", "options", "advice"),
    [
        (lambda labels: labels * 255, {"ignore_index": 254}, "write 1 instead of 255"),
        (lambda labels: labels + 1, {}, "subtract 1 from the labels"),
        (lambda labels: labels * 9, {}, "Map these labels to classes"),
        (lambda labels: torch.where(torch.eye(8) > 0, 255, labels), {"ignore_index": -1}, "give ignore_index=255"),
        (lambda labels: torch.where(torch.eye(8) > 0, -1, labels), {}, "If -1 is void, give ignore_index=-1"),
    ],
    ids=["0 and 255", "from 1", "another value", "void of another value", "negative void"],
)
def test_foreign_labels_end_an_evaluation_before_the_work(
    mask: Callable[[Tensor], Tensor], options: dict[str, int], advice: str
) -> None:
    data = samples(mask)
    if advice.startswith("Map"):  # the first masks are as they should be
        data[:2] = samples(lambda labels: labels)[:2]
    with pytest.raises(ValueError, match=f"neither a class nor void.*{advice}"):
        attack(data, progress=False, **options)


def test_large_sets_are_sampled_evenly() -> None:
    data = samples(lambda labels: labels * 0, num=100)
    data[50] = (data[50][0], torch.ones(8, 8, dtype=torch.int64))
    assert look(data, most=4).class_pixels == (3 * 64, 64)
    assert look(data, most=3).class_pixels == (3 * 64, 0)
    assert look(data, most=4).describe().startswith("labels of 4 of 100 masks: 2 of 2 classes occur;")


def test_settings_name_absent_classes_and_void(capsys: pytest.CaptureFixture[str]) -> None:
    attack(samples(lambda labels: labels), num_classes=3, progress=True)
    assert "labels of 4 masks: 2 of 3 classes occur (absent: 2); 0.0% of the pixels" in capsys.readouterr().err
