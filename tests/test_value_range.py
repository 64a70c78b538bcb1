import numpy as np
import pytest

from segrobust.value_range import ValueRange


def test_values_are_scaled_by_channel_and_back():
    values = np.array([[[0, 200.0], [50, 300]]])
    value_range = ValueRange.parse([[0, 100], [200, 300]])
    scaled = value_range.scaled(values)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, [[[0, 0], [0.5, 1]]])
    assert value_range.values([0.5, 0.25]) == [50, 225]
    assert value_range.used([(0, 10), (200, 250)]) == 0.5


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ([0, 10_000], "314 of 10000"),
        ([1000, 5000], "125 of 4000"),
        ([[0, 1], [0, 10_000], [0, 100]], "0.0314 to 314 of 1 to 10000"),
    ],
)
def test_lengths_are_shares_of_the_range(limits, text):
    assert ValueRange.parse(limits).in_units(8 / 255) == text


@pytest.mark.parametrize(
    "value", [None, 5, [], [1], [1, 0], [0, 0], ["0", "1"], [[0, 1], 2], [0, float("inf")], [True, 5], {"low": 0}]
)
def test_what_is_no_range_is_refused(value):
    with pytest.raises(ValueError, match="a range is"):
        ValueRange.parse(value)
