"""Intervals against theory and brute force."""

import math

import numpy as np
import pytest

from segrobust.evaluation.numbers.bootstrap import Bootstrap


def images(count):
    return Bootstrap({number: f"image {number}" for number in range(count)})


def test_the_interval_of_a_mean_is_that_of_theory():
    """The standard error of a mean of n values is their deviation / sqrt(n); 95 % are 1.96 of these on each side."""
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    interval = images(400).of_mean(range(400), values.tolist())
    error = values.std() / math.sqrt(400)
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_images_of_one_recording_are_drawn_together():
    """Ten recordings of 40 equal images tell as much as ten images do: the interval is wider by sqrt(40)."""
    values = np.random.default_rng(2).normal(size=10).repeat(40).tolist()
    alone = images(400).of_mean(range(400), values)
    together = Bootstrap({number: f"video {number // 40}" for number in range(400)})
    assert (images(400).resampling, together.resampling) == ("image", "sequence")
    interval = together.of_mean(range(400), values)
    assert (interval.high - interval.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(40), rel=0.15)


def test_few_recordings_are_resampled_image_by_image():
    assert Bootstrap({number: f"video {number % 3}" for number in range(30)}).resampling == "image"


def test_a_median_is_that_of_the_images_drawn_and_knows_inf():
    values = [1.0, 2.0, 3.0, 4.0, math.inf, math.inf, math.inf]
    bootstrap = images(7)
    draws = np.random.default_rng(0).multinomial(7, [1 / 7] * 7, 1000)  # as the class draws them
    medians = sorted(np.repeat(values, draw)[3] for draw in draws)
    interval = bootstrap.of_median(range(7), values)
    assert (interval.low, interval.high) == (medians[round(0.025 * 999)], medians[round(0.975 * 999)])
    assert interval.high == math.inf


def test_sums_are_of_the_images_that_were_measured():
    """An attack that is not finished is resampled over the images that it has."""
    interval = images(9).of_mean([3, 4], [1.0, 1.0])
    assert (interval.low, interval.high) == (1.0, 1.0)


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_tells_nothing_about_others(count):
    interval = images(count).of_mean(range(count), [0.5] * count)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
