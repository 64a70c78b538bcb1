"""Regions against slow loops over pixels."""

import itertools

import pytest
import torch

from segrobust.metrics import find_regions
from segrobust.metrics.regions import BAND_SHARE, SIZE_LIMITS


def blobs(seed, height=41, width=60, num_classes=4):
    """Label maps with areas of all sizes, single pixels and void."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, num_classes, (1, 1, 5, 6), generator=generator).float()
    labels = torch.nn.functional.interpolate(coarse, (height, width))[0, 0].long()
    stray = torch.rand(height, width, generator=generator) < 0.02
    labels[stray] = torch.randint(0, num_classes, (int(stray.sum()),), generator=generator)
    valid = torch.rand(height, width, generator=generator) > 0.05
    return labels, valid


def slow_boundary(labels, valid):
    height, width = labels.shape
    reach = max(1, round(BAND_SHARE * (height**2 + width**2) ** 0.5))
    band = torch.zeros_like(valid)
    for y, x in itertools.product(range(height), range(width)):
        window = (slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1))
        seen = labels[window][valid[window]]
        band[y, x] = bool(valid[y, x]) and bool((seen != labels[y, x]).any())
    return band


def slow_objects(labels, valid):
    """Areas found by walking from pixel to pixel."""
    height, width = labels.shape
    left = {(y, x) for y, x in itertools.product(range(height), range(width)) if valid[y, x]}
    areas = []
    while left:
        start = left.pop()
        area, frontier = [start], [start]
        while frontier:
            y, x = frontier.pop()
            for near in itertools.product((y - 1, y, y + 1), (x - 1, x, x + 1)):
                if near in left and labels[near] == labels[start]:
                    left.remove(near)
                    area.append(near)
                    frontier.append(near)
        areas.append(area)
    return areas


@pytest.mark.parametrize("seed", range(3))
def test_the_band_is_where_another_class_is_near(seed):
    labels, valid = blobs(seed)
    regions = find_regions(labels[None], valid[None])
    assert torch.equal(regions.boundary[0], slow_boundary(labels, valid))
    assert 0 < int(regions.boundary.sum()) < int(valid.sum())


@pytest.mark.parametrize("seed", range(3))
def test_tallies_are_those_of_a_walk_over_the_pixels(seed):
    labels, valid = blobs(seed)
    right = torch.rand(labels.shape, generator=torch.Generator().manual_seed(9)) < 0.5
    expected = [[0, 0, 0, 0] for _ in range(3)]
    for area in slow_objects(labels, valid):
        size = sum(len(area) >= limit * labels.numel() for limit in SIZE_LIMITS)
        hits = sum(bool(right[pixel]) for pixel in area)
        for column, value in enumerate((1, int(2 * hits >= len(area)), len(area), hits)):
            expected[size][column] += value
    regions = find_regions(labels[None], valid[None])
    assert regions.count_objects(right[None]) == [tuple(map(tuple, expected))]
    assert all(tally[0] for tally in expected), "objects of all sizes"
    band = slow_boundary(labels, valid)
    assert regions.count_boundary(right[None]) == [(int(band.sum()), int((band & right).sum()))]


def test_images_do_not_see_each_other():
    pairs = [blobs(seed) for seed in range(3)]
    together = find_regions(torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
    right = torch.ones(3, *pairs[0][0].shape, dtype=torch.bool)
    alone = [find_regions(labels[None], valid[None]).count_objects(right[:1])[0] for labels, valid in pairs]
    assert together.count_objects(right) == alone


def test_void_makes_no_border_and_no_object():
    labels = torch.zeros(1, 20, 20, dtype=torch.long)
    valid = torch.ones(1, 20, 20, dtype=torch.bool)
    labels[0, :, 10:] = 3
    valid[0, :, 8:12] = False  # wider than the band of one pixel
    regions = find_regions(labels, valid)
    assert not regions.boundary.any()
    nothing = find_regions(labels, torch.zeros_like(valid))
    assert nothing.count_objects(valid) == [((0, 0, 0, 0),) * 3]
    assert nothing.count_boundary(valid) == [(0, 0)]
