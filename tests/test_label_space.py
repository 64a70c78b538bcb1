import json

import pytest
import torch

from segrobust.label_space import LabelSpace

SPACE = LabelSpace(names=("sky", "road"), palette=((1, 2, 3), (4, 5, 6)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ()}, "at least one class"),
        ({"names": ("sky", "sky")}, "more than once: sky"),
        ({"palette": ((1, 2, 3),)}, "1 colours for 2 classes"),
        ({"palette": ((1, 2, 3), (4, 5, 256))}, r"'road'.*256"),
        ({"palette": ((1, 2, 3), (4, 5))}, r"'road'.*\(4, 5\)"),
    ],
)
def test_bad_spaces_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LabelSpace(**{"names": ("sky", "road"), "palette": ((1, 2, 3), (4, 5, 6)), **change})


def test_a_class_may_be_void_but_255_must_not_be_one_by_default():
    space = LabelSpace(names=("sky", "void"), palette=SPACE.palette, ignore_index=1)
    assert (space.num_classes, space.void_class, SPACE.void_class) == (2, "void", None)
    space.check(torch.tensor([0, 1]))
    assert space.colorize(torch.tensor([0, 1])).tolist() == [[1, 2, 3], [0, 0, 0]]
    with pytest.raises(ValueError, match="ignore_index=255 is also one of the 256 classes"):
        LabelSpace(names=tuple(map(str, range(256))), palette=((0, 0, 0),) * 256)


def test_survives_json():
    space = LabelSpace(names=("sky", "road"), palette=((1, 2, 3), (4, 5, 6)), ignore_index=-1)
    assert LabelSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": "sky"}, "list of strings, got 'sky'"),
        ({"names": [1, 2]}, "list of strings"),
        ({"palette": [[1, 2, 3], 7]}, r"list of \[R, G, B\]"),
        ({"palette": [[1, 2, 3], [1, 2, "x"]]}, "must be integers"),
        ({"ignore_index": "255"}, "'255'"),
        ({"colors": []}, "keys .*got .*colors"),
    ],
)
def test_from_dict_names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        LabelSpace.from_dict(SPACE.to_dict() | change)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_check_names_foreign_values_and_counts(dtype):
    SPACE.check(torch.tensor([[0, 1], [255, 1]], dtype=dtype))
    with pytest.raises(ValueError, match=r"3 of 6 label pixels hold 2, 11; allowed are 0\.\.1 .*ignore_index=255"):
        SPACE.check(torch.tensor([[0, 1, 2], [11, 11, 255]], dtype=dtype))


def test_check_refuses_negative_labels_but_not_a_negative_void():
    with pytest.raises(ValueError, match="hold -1"):
        SPACE.check(torch.tensor([-1, 0]))
    negative = LabelSpace(names=SPACE.names, palette=SPACE.palette, ignore_index=-1)
    negative.check(torch.tensor([-1, 0]))
    with pytest.raises(ValueError, match="hold 255"):
        negative.check(torch.tensor([255, 0], dtype=torch.uint8))


@pytest.mark.parametrize("ignore_index", [255, -1])
def test_colorize_paints_the_palette_and_void_black(ignore_index):
    space = LabelSpace(names=SPACE.names, palette=SPACE.palette, ignore_index=ignore_index)
    painted = space.colorize(torch.tensor([[0, 1], [ignore_index, 0]]))
    assert painted.dtype == torch.uint8
    assert painted.tolist() == [[[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [1, 2, 3]]]
    with pytest.raises(ValueError, match="hold 2"):
        space.colorize(torch.tensor([[2]]))


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (LabelSpace(names=("sky", "tree"), palette=SPACE.palette), "class 1 is 'road' on one side and 'tree'"),
        (LabelSpace(names=("sky", "road", "car"), palette=(*SPACE.palette, (0, 0, 0))), "2 classes against 3"),
        (LabelSpace(names=SPACE.names, palette=SPACE.palette, ignore_index=9), "ignore_index 255 against 9"),
    ],
)
def test_require_equal_shows_both_sides(other, difference):
    with pytest.raises(ValueError, match=difference) as caught:
        SPACE.require_equal(other, "train data", "val data")
    text = str(caught.value)
    assert "train data: 2 classes (sky, road), ignore_index=255" in text
    assert f"val data: {other.num_classes} classes ({', '.join(other.names)})" in text


def test_colours_alone_make_no_difference():
    SPACE.require_equal(LabelSpace(names=SPACE.names, palette=((9, 9, 9), (8, 8, 8))), "a", "b")
