"""Folders that can be read in two ways, or not at all: `data init`, `data check` and `Folder` say which and why."""

import re
import struct
import warnings

import numpy as np
import pytest
import yaml
from data_rows import SIZE, classes, image, mask
from PIL import Image

from segrobust.cli.data_command import data_command
from segrobust.data import Folder
from segrobust.data.files.image_files import is_turned
from segrobust.untrusted.data_fault import DataDoubt, DataFault

NAMES = ("001", "002", "010")
COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0]], dtype=np.uint8)
ORDERS = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]], dtype=np.uint8)


def labels_of(place):
    return classes(seed=place)


def pairs(root, image_path="images/{n}.png", mask_path="masks/{n}.png", write=mask, names=NAMES):
    """Images, and masks with other labels each."""
    for place, name in enumerate(names):
        image(root / image_path.format(n=name))
        path = root / mask_path.format(n=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, labels_of(place))


def with_own_palette(path, labels):
    """A palette whose order is another one in each mask."""
    order = ORDERS[NAMES.index(path.stem)]
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[order] = COLORS
    picture = Image.fromarray(order[labels])
    picture.putpalette(palette.ravel().tolist())
    picture.save(path)


def init(root, capsys):
    """What `data init` says, on one line, and what it writes."""
    data_command(["init", str(root)])
    return " ".join(capsys.readouterr().out.split()), yaml.safe_load((root / "classes.yaml").read_text())


def refused(root, capsys):
    with pytest.raises(SystemExit) as done:
        data_command(["init", str(root)])
    return str(done.value.code) + capsys.readouterr().err


def check(root, capsys):
    with pytest.raises(SystemExit):
        data_command(["check", "--data", "Folder", "--data.root", str(root), "--data.split", "all"])
    return " ".join(capsys.readouterr().out.split())


def test_palettes_of_another_order_in_each_mask_are_read_by_their_colours(tmp_path, capsys):
    pairs(tmp_path, write=with_own_palette)
    said, written = init(tmp_path, capsys)
    assert "palettes differ: 0 is [0, 0, 0]" in said
    assert written["values"] == [[0, 0, 0], [0, 200, 0], [200, 0, 0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataDoubt)
        data = Folder(tmp_path)
    for place in range(3):
        np.testing.assert_array_equal(data[place]["mask"], np.array([0, 2, 1])[labels_of(place)])
    (tmp_path / "classes.yaml").write_text("names: [a, b, c]\nimages: images\nmasks: masks\n")
    with pytest.warns(DataDoubt, match="palettes differ: .*write `values` as colours"):
        Folder(tmp_path)
    assert re.search("warning palettes, 1: palettes differ: .* 0 faults", check(tmp_path, capsys))


def test_palettes_that_differ_where_no_mask_uses_them_are_alike(tmp_path):
    def with_spare(path, labels):
        picture = Image.fromarray(labels)
        picture.putpalette([*COLORS.ravel().tolist(), NAMES.index(path.stem), 0, 0])
        picture.save(path)

    pairs(tmp_path, write=with_spare)
    (tmp_path / "classes.yaml").write_text("names: [a, b, c]\nimages: images\nmasks: masks\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataDoubt)
        Folder(tmp_path)


@pytest.mark.parametrize("orientation", [3, 6])
def test_images_that_viewers_turn_are_named(tmp_path, orientation):
    turn = np.rot90 if orientation == 6 else np.asarray
    pairs(tmp_path, "images/{n}.jpg", write=lambda path, labels: mask(path, turn(labels).copy()))
    for path in (tmp_path / "images").iterdir():
        exif = Image.Exif()
        exif[0x112] = orientation
        Image.open(path).copy().save(path, exif=exif)
    (tmp_path / "classes.yaml").write_text("names: [a, b, c]\nimages: images\nmasks: masks\n")
    if orientation == 3:
        with pytest.warns(DataDoubt, match="3 of 3 images .* ask viewers to turn them"):
            Folder(tmp_path)
    else:
        with pytest.raises(DataFault, match=r"its mask is of the turned image: .* PIL\.ImageOps\.exif_transpose"):
            Folder(tmp_path)


def noise(path, labels):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_that_points_beyond_its_end_gives_no_line_for_each_tag(tmp_path, kind):
    path = tmp_path / f"a.{kind.lower()}"
    tags = b"".join(struct.pack(">HHII", tag, 7, 2**20 + tag, 100) for tag in range(1, 99))
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHH", 8, 99, 0x112, 3, 1, 6, 0) + tags + bytes(4)
    Image.new("RGB", (9, 8)).save(path, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_turned(path)


def test_exif_of_megabytes_is_not_read_for_each_of_its_tags(tmp_path, monkeypatch):
    seen, load = [], Image.Exif.load
    monkeypatch.setattr(Image.Exif, "load", lambda self, data: seen.append(len(data)) or load(self, data))
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0) + bytes(2**21)
    for kind in ("PNG", "WEBP"):
        Image.new("RGB", (9, 8)).save(tmp_path / f"a.{kind.lower()}", exif=exif)
        assert is_turned(tmp_path / f"a.{kind.lower()}")
    assert max(seen) <= 2**16


@pytest.mark.parametrize(
    ("mask_path", "write", "says"),
    [
        ("masks/{n}.jpg", mask, "001.jpg is of a format that may change values; write masks as PNG"),
        ("masks/{n}.png", lambda p, x: mask(p, np.dstack([x, x, x, x])), "mode RGBA, and .* are transparent"),
        ("{n}_seg.png", noise, "different values, too many for classes: .* files of ADE20K"),
    ],
)
def test_files_that_are_no_masks_say_why(tmp_path, capsys, mask_path, write, says):
    folder = "images/{n}.jpg" if "/" in mask_path else "{n}.jpg"
    pairs(tmp_path, folder, mask_path, write)
    assert re.search(says, refused(tmp_path, capsys))


def test_formats_that_are_not_read_are_counted(tmp_path, capsys):
    pairs(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_suffix(".heic"))
    assert "3 .heic are not read; convert them" in refused(tmp_path, capsys)


def test_images_of_several_formats_in_one_folder_are_all_read(tmp_path, capsys):
    pairs(tmp_path)
    Image.open(tmp_path / "images/001.png").save(tmp_path / "images/001.bmp")
    (tmp_path / "images/001.png").unlink()
    assert init(tmp_path, capsys)[1]["images"] == "images"
    assert Folder(tmp_path).names == NAMES


def test_lists_may_have_endings_and_other_lists_are_named(tmp_path, capsys):
    pairs(tmp_path)
    (tmp_path / "train.txt").write_text("001.png\n")
    (tmp_path / "val.txt").write_text("010.PNG\n002\n")
    assert init(tmp_path, capsys)[1]["list"] == "{split}.txt"
    assert Folder(tmp_path, "val").names == ("002", "010")
    (tmp_path / "classes.yaml").unlink()
    for name in ("train", "val"):
        (tmp_path / f"{name}.txt").write_text("images/001.png masks/001.png\n")
    said, written = init(tmp_path, capsys)
    assert "val.txt is not read as a list of a split" in said
    assert "list" not in written


def test_folders_beside_that_of_the_images_are_not_left_out_in_silence(tmp_path, capsys):
    pairs(tmp_path, "one/images/{n}.png", "one/masks/{n}.png")
    pairs(tmp_path, "two/images/{n}.png", "other/{n}.png")
    assert "NOT READ, though they lie like the images: two/images" in init(tmp_path, capsys)[0]


def test_an_empty_folder_is_no_split(tmp_path, capsys):
    pairs(tmp_path, "images/train/{n}.png", "masks/train/{n}.png")
    for folder in ("images/val", "masks/val"):
        (tmp_path / folder).mkdir()
    assert "splits train " in init(tmp_path, capsys)[0].replace("splits train,", "splits of two")


def test_values_at_single_pixels_are_doubted(tmp_path, capsys):
    def lossy(path, labels):
        row = [0] * 3 + [*range(10, 200, 19)] + [200] * 3  # two classes, resized smoothly
        Image.fromarray(np.tile(np.uint8(row), (SIZE[0], 1))).save(path)

    pairs(tmp_path, write=lossy)
    assert "most of these values are at single pixels" in init(tmp_path, capsys)[0]
