"""Confusion counts and IoU against slow implementations."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from segrobust.metrics import (
    ConfusionCounts,
    SegmentationConfusion,
    SegmentationScores,
    accuracy,
    class_accuracy,
    confusion_counts,
    iou_per_class,
    miou_dataset,
    miou_image,
    segmentation_scores,
)

VOID = 255
NUM_CLASSES = 6


def scene(
    seed: int, batch: int = 4, num_classes: int = NUM_CLASSES, absent: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor]:
    """Random prediction and labels with void pixels; the absent classes are predicted, but in no label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, (batch, 7, 9), generator=generator)
    wrong = torch.randint(0, num_classes, labels.shape, generator=generator)
    prediction = torch.where(torch.rand(labels.shape, generator=generator) < 0.6, labels, wrong)
    for index in absent:
        labels[labels == index] = (index + 1) % num_classes
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = VOID
    return prediction, labels


def slow_iou(prediction: np.ndarray, labels: np.ndarray, num_classes: int) -> list[float]:
    """IoU by sets of pixel positions; nan for classes without a ground-truth pixel."""
    values = []
    for index in range(num_classes):
        truth = {tuple(where) for where in np.argwhere(labels == index)}
        found = {tuple(where) for where in np.argwhere((prediction == index) & (labels != VOID))}
        values.append(len(truth & found) / len(truth | found) if truth else math.nan)
    return values


def slow_scores(prediction: np.ndarray, labels: np.ndarray, num_classes: int) -> SegmentationScores:
    """The scores of a data set, pixel by pixel."""
    iou = slow_iou(prediction, labels, num_classes)
    right = [[p == t for p, t in zip(prediction.flat, labels.flat, strict=True) if t == k] for k in range(num_classes)]
    pixels = [hit for hits in right for hit in hits]
    recalls = [sum(hits) / len(hits) for hits in right if hits]
    present = [value for value in iou if not math.isnan(value)]
    return SegmentationScores(
        sum(present) / len(present), sum(pixels) / len(pixels), sum(recalls) / len(recalls), tuple(iou)
    )


def assert_scores(got: SegmentationScores, expected: SegmentationScores, tolerance: float = 1e-13) -> None:
    np.testing.assert_allclose(got[:3], expected[:3], rtol=tolerance)
    np.testing.assert_allclose(got.iou, expected.iou, rtol=tolerance)


@pytest.mark.parametrize("absent", [(), (2,), (0, 5)])
@pytest.mark.parametrize("seed", range(4))
def test_scores_match_a_slow_implementation(seed: int, absent: tuple[int, ...]) -> None:
    prediction, labels = scene(seed, absent=absent)
    metric = SegmentationConfusion(NUM_CLASSES, ignore_index=VOID)
    for index in range(len(labels)):
        metric.update(prediction[index : index + 1], labels[index : index + 1])
    assert_scores(metric.compute(), slow_scores(prediction.numpy(), labels.numpy(), NUM_CLASSES))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**32), st.integers(1, 3), st.data())
def test_counts_of_any_maps(num_classes: int, seed: int, batch: int, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, data.draw(st.integers(1, num_classes)), (batch, 3, 4), generator=generator)
    prediction = torch.randint(0, num_classes, labels.shape, generator=generator)
    valid = torch.rand(labels.shape, generator=generator) < data.draw(st.floats(0, 1))
    counts = confusion_counts(prediction, labels, num_classes, valid)
    for image in range(batch):
        for index in range(num_classes):
            pairs = [
                (p == index, t == index)
                for p, t, v in zip(*(m[image].flatten().tolist() for m in (prediction, labels, valid)), strict=True)
                if v
            ]
            assert counts.tp[image, index] == pairs.count((True, True))
            assert counts.fp[image, index] == pairs.count((True, False))
            assert counts.fn[image, index] == pairs.count((False, True))


@pytest.mark.parametrize("seed", range(3))
def test_scores_match_torchmetrics_where_every_class_is_present(seed: int) -> None:
    prediction, labels = scene(seed)
    ours = SegmentationConfusion(NUM_CLASSES)
    ours.update(prediction, labels)
    keep = {"num_classes": NUM_CLASSES, "ignore_index": VOID}
    scores = ours.compute()
    jaccard = MulticlassJaccardIndex(average=None, **keep)(prediction, labels).tolist()
    assert scores.iou == pytest.approx(jaccard, abs=1e-6)
    assert scores.miou == pytest.approx(MulticlassJaccardIndex(**keep)(prediction, labels).item(), abs=1e-6)
    assert scores.accuracy == pytest.approx(
        MulticlassAccuracy(average="micro", **keep)(prediction, labels).item(), abs=1e-6
    )
    assert scores.mean_class_accuracy == pytest.approx(MulticlassAccuracy(**keep)(prediction, labels).item(), abs=1e-6)


def test_a_class_that_is_only_predicted_lowers_the_others_and_is_no_zero() -> None:
    labels = torch.tensor([[[0, 0, 0, 1]]])
    metric = SegmentationConfusion(3)
    metric.update(torch.tensor([[[0, 0, 2, 1]]]), labels)
    scores = metric.compute()
    assert scores.iou[:2] == (2 / 3, 1.0)
    assert math.isnan(scores.iou[2])
    assert scores.miou == pytest.approx((2 / 3 + 1) / 2)
    assert scores.accuracy == 0.75
    assert scores.mean_class_accuracy == pytest.approx((2 / 3 + 1) / 2)


def test_image_mean_differs_from_dataset_mean() -> None:
    labels = torch.tensor([[[0, 0, 0, 1]], [[1, 1, 1, 1]], [[VOID] * 4]])
    prediction = torch.tensor([[[0, 0, 0, 0]], [[1, 1, 1, 1]], [[0, 1, 0, 1]]])
    counts = confusion_counts(prediction, labels, 2, labels != VOID)
    assert miou_image(counts).item() == pytest.approx(((3 / 4 + 0) / 2 + 1) / 2)
    assert miou_dataset(counts).item() == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert segmentation_scores(counts) == segmentation_scores(counts.total())
    assert segmentation_scores(counts).miou == miou_dataset(counts)
    assert iou_per_class(counts)[1].isnan().tolist() == [True, False]


@pytest.mark.parametrize("seed", range(3))
def test_image_mean_matches_a_slow_implementation(seed: int) -> None:
    prediction, labels = scene(seed, absent=(1,))
    labels[0] = VOID
    labels[1, :, :] = 3
    images = [slow_iou(p, t, NUM_CLASSES) for p, t in zip(prediction.numpy()[1:], labels.numpy()[1:], strict=True)]
    expected = np.mean([np.nanmean(values) for values in images])
    assert miou_image(confusion_counts(prediction, labels, NUM_CLASSES, labels != VOID)).item() == pytest.approx(
        expected
    )


def test_nothing_valid_is_nan_and_not_zero() -> None:
    counts = confusion_counts(torch.zeros(2, 3, 3).long(), torch.zeros(2, 3, 3).long(), 4, torch.zeros(2, 3, 3).bool())
    assert counts.tp.shape == (2, 4)
    assert counts.tp.sum() == counts.fp.sum() == counts.fn.sum() == 0
    for score in (miou_dataset, miou_image, accuracy, class_accuracy):
        assert score(counts).isnan()


def test_void_pixels_have_no_influence() -> None:
    prediction, labels = scene(0)
    changed = torch.where(labels == VOID, 77, prediction)
    first, second = SegmentationConfusion(NUM_CLASSES), SegmentationConfusion(NUM_CLASSES)
    first.update(prediction, labels)
    second.update(changed, labels)
    assert first.compute() == second.compute()


def test_counts_beyond_float_precision_stay_exact() -> None:
    metric = SegmentationConfusion(2)
    metric.rows.append(torch.tensor([[-1, 2**53, 2**53, 0, 0, 0, 2**53]]))
    metric.update(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 1, 1]]]))
    metric.half().double()
    assert sum(metric.rows[1:]).tolist() == [[-2, 2**53 + 1, 2**53 + 2, 0, 0, 0, 2**53]]
    assert metric.compute().iou == pytest.approx((1.0, 0.5))


def test_an_image_that_comes_twice_counts_once() -> None:
    prediction, labels = scene(3, batch=4)
    once, twice = SegmentationConfusion(NUM_CLASSES), SegmentationConfusion(NUM_CLASSES)
    once.update(prediction, labels)
    for rows in ([2, 0, 2], [1], [0, 3, 1]):
        twice.update(prediction[rows], labels[rows], torch.tensor(rows) + 7)
    assert twice.compute() == once.compute()
    without_ids = SegmentationConfusion(NUM_CLASSES)
    without_ids.update(prediction, labels)
    without_ids.update(prediction[:1], labels[:1])
    assert without_ids.compute() != once.compute()


def test_reset_forgets() -> None:
    prediction, labels = scene(1)
    metric = SegmentationConfusion(NUM_CLASSES)
    metric.update(1 - (labels == 0).long(), labels)
    metric.reset()
    metric.update(prediction, labels)
    assert_scores(metric.compute(), slow_scores(prediction.numpy(), labels.numpy(), NUM_CLASSES))


@pytest.mark.parametrize(
    ("prediction", "labels", "message"),
    [
        ([[[0, 1]]], [[[0, 7]]], r"labels holds \[7\].*0 to 2"),
        ([[[0, 1]]], [[[-1, 1]]], r"labels holds \[-1\]"),
        ([[[0, 3]]], [[[0, 1]]], r"prediction holds \[3\]"),
        ([[[0, 1, 1]]], [[[0, 1]]], "share one shape"),
        ([[0, 1]], [[0, 1]], "share one shape"),
    ],
)
def test_foreign_values_are_named(prediction: list[object], labels: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationConfusion(3).update(torch.tensor(prediction), torch.tensor(labels))


def test_logits_and_wrong_types_are_refused() -> None:
    labels = torch.zeros(1, 2, 2).long()
    with pytest.raises(ValueError, match="argmax"):
        SegmentationConfusion(3).update(torch.rand(1, 3, 2, 2), labels)
    with pytest.raises(TypeError, match="float32"):
        SegmentationConfusion(3).update(torch.rand(1, 2, 2), labels)
    with pytest.raises(TypeError, match="valid_mask must be bool"):
        confusion_counts(labels, labels, 3, labels)
    with pytest.raises(ValueError, match="got 1"):
        SegmentationConfusion(1)


def test_inexact_or_unequal_counts_are_refused() -> None:
    zeros = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(TypeError, match="int64"):
        ConfusionCounts(tp=zeros, fp=zeros.float(), fn=zeros)
    with pytest.raises(ValueError, match="share one shape"):
        ConfusionCounts(tp=zeros, fp=zeros, fn=zeros[:2])
    with pytest.raises(ValueError, match=r"per image \(B, K\)"):
        miou_image(ConfusionCounts(tp=zeros, fp=zeros, fn=zeros))


SHARDINGS = {
    "uneven": ([0, 2, 4], [1, 3]),
    "empty rank": ([0, 1, 2, 3, 4], []),
    "repeated": ([0, 2, 4], [1, 3, 0]),  # as a distributed sampler gives
}
BEYOND_FLOAT = torch.tensor([[99, *[2**53] * NUM_CLASSES, *[0] * (2 * NUM_CLASSES)]])
"""Counts of an image of id 99 that a float64 cannot add one to; every process has it."""


def _count_shards(rank: int, directory: str) -> None:
    """Count one rank's images for every sharding, synchronise, and save what this rank got."""
    store = torch.distributed.FileStore(f"{directory}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    prediction, labels = scene(5, batch=5, absent=(2,))
    results = {}
    for name, shards in SHARDINGS.items():
        metric = SegmentationConfusion(NUM_CLASSES)
        if shards[rank]:
            metric.rows.append(BEYOND_FLOAT)
            metric.update(prediction[shards[rank]], labels[shards[rank]], torch.tensor(shards[rank]))
        results[name] = tuple(metric.compute())
    torch.save(results, f"{directory}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.ddp
def test_two_processes_count_like_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_count_shards, args=(str(tmp_path),), nprocs=2)
    prediction, labels = scene(5, batch=5, absent=(2,))
    single = SegmentationConfusion(NUM_CLASSES)
    single.rows.append(BEYOND_FLOAT)
    single.update(prediction, labels)
    expected = repr(tuple(single.compute()))
    for rank in range(2):
        results = torch.load(tmp_path / f"rank{rank}.pt")
        assert {name: repr(scores) for name, scores in results.items()} == dict.fromkeys(SHARDINGS, expected)
