"""Masks in MATLAB files, against scipy's reader."""

import contextlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from segrobust.data.files.matlab_masks import read_mask_of_structure
from segrobust.untrusted.data_fault import DataFault


@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.booleans(), st.booleans())
def test_a_mask_is_what_scipy_reads(tmp_path_factory, size, is_compressed, is_first):
    labels = np.random.default_rng(size[0]).integers(0, 256, size, dtype=np.uint8)
    fields = {"Boundaries": np.zeros((20, 1), object), "Segmentation": labels, "CategoriesPresent": np.arange(3.0)}
    variables = [("GTcls", fields), ("other", np.ones((3, 4)))]
    path = tmp_path_factory.getbasetemp() / "mask.mat"
    scipy.io.savemat(path, dict(variables if is_first else variables[::-1]), do_compression=is_compressed)
    read = read_mask_of_structure(path, "GTcls", "Segmentation")
    np.testing.assert_array_equal(read, scipy.io.loadmat(path)["GTcls"][0, 0]["Segmentation"])
    np.testing.assert_array_equal(read, labels)


@given(st.data())
def test_a_changed_file_is_a_mask_or_a_fault(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed.mat"
    scipy.io.savemat(path, {"GTcls": {"Segmentation": np.ones((4, 5), dtype=np.uint8)}})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(DataFault):
        assert read_mask_of_structure(path, "GTcls", "Segmentation").size <= 20


def test_the_byte_order_of_other_machines_is_read(tmp_path):
    """Written by hand: scipy writes the order of this machine."""

    def element(kind, content):
        return kind.to_bytes(4) + len(content).to_bytes(4) + content + bytes(-len(content) % 8)

    def matrix(kind, shape, name, rest):
        sides = b"".join(side.to_bytes(4) for side in shape)
        head = element(6, kind.to_bytes(4) + bytes(4)) + element(5, sides) + element(1, name)
        return element(14, head + rest)

    mask = matrix(9, (2, 3), b"", element(2, bytes(range(6))))
    names = element(5, (32).to_bytes(4)) + element(1, b"Segmentation".ljust(32, b"\0"))
    path = tmp_path / "big.mat"
    path.write_bytes(bytes(124) + b"\1\0MI" + matrix(2, (1, 1), b"GTcls", names + mask))
    assert read_mask_of_structure(path, "GTcls", "Segmentation").tolist() == [[0, 2, 4], [1, 3, 5]]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataFault, match=r"none\.mat is missing"):
        read_mask_of_structure(tmp_path / "none.mat", "GTcls", "Segmentation")
