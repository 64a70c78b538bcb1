"""The table from written values to labels, against a loop over pixels."""

import pickle

import numpy as np
import pytest

from segrobust.data.files.value_table import ValueTable, pack, unpack
from segrobust.untrusted.data_fault import DataFault


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("num_classes", [2, 7, 200])
def test_labels_are_those_of_a_dictionary(kind, num_classes):
    generator = np.random.default_rng(num_classes)
    highest = min(np.iinfo(kind).max, 2**24)
    values = generator.choice(highest + 1, num_classes + 1, replace=False) if kind != np.uint8 else np.arange(255)
    labels = {int(value): label for label, value in enumerate(values[: num_classes + 1])}
    raw = generator.choice([*labels], (37, 41)).astype(kind)
    expected = np.array([[labels[int(value)] for value in row] for row in raw])
    found = ValueTable(labels, "these").map(raw)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_a_large_mask_is_searched_in_blocks_and_wide_labels_take_16_bits():
    labels = {-1: 65535, 10**6: 300, 2**31: 0}
    raw = np.random.default_rng(0).choice([*labels], (700, 800))
    found = ValueTable(labels, "these").map(raw)
    assert found.dtype == np.uint16
    for value, label in labels.items():
        np.testing.assert_array_equal(found == label, raw == value)


def test_foreign_values_are_counted_with_the_most_frequent_first_and_say_what_to_write():
    table = pickle.loads(pickle.dumps(ValueTable({0: 0, 9: 1}, "0 and 9", advice=_advice)))
    with pytest.raises(DataFault, match=r"^4 of 6 pixels hold 8 \(3\), 7 \(1\); allowed are 0 and 9\. Not \[8, 7\]$"):
        table.map(np.array([[0, 8, 8], [8, 9, 7]], dtype=np.uint8))
    with pytest.raises(DataFault, match=r"pixels hold \(0, 0, 1\) \(1\); allowed"):
        ValueTable({0: 0}, "black", are_colors=True).map(np.array([[0, 1]], dtype=np.int32))


def _advice(found):
    return f"Not {found}"


def test_colours_are_packed_without_collision():
    colors = np.random.default_rng(0).integers(0, 256, (500, 3)).tolist()
    assert [unpack(pack(tuple(color))) for color in colors] == [tuple(color) for color in colors]
