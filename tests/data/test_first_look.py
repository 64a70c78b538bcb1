"""`segrobust data init` on folders as people have them: what it writes is read, checked and evaluated unchanged."""

import re
import unicodedata
from contextlib import contextmanager

import numpy as np
import pytest
import yaml
from data_rows import image, mask, network
from PIL import Image
from tiffs import write_tiff

import segrobust
from segrobust.attacks import FGSM
from segrobust.cli.data_command import data_command
from segrobust.data import Folder
from segrobust.data.first_look.pairing import Affixes, find_pairings
from segrobust.untrusted.data_fault import DataFault

SIZE = (12, 16)


def labels(number, seed=0):
    return np.random.default_rng(seed).integers(0, number, SIZE).astype(np.uint8)


def fill(root, image_path, mask_path, values=lambda: labels(3), splits=("",), names=("001", "002", "010")):
    """Images and masks at places with `{n}` for the name and `{s}` for the split."""
    for split in splits:
        for name in names:
            image(root / image_path.format(n=name, s=split))
            mask(root / mask_path.format(n=name, s=split), values())


def coded(*values, kind=np.uint8):
    return lambda: np.array(values, dtype=kind)[labels(len(values))]


def palette(root):
    fill(root, "images/{s}/{n}.jpg", "masks/{s}/{n}.png", splits=("val",))
    for path in (root / "masks/val").iterdir():
        picture = Image.fromarray(labels(3))
        picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0] + [0] * 759)
        picture.save(path)


def voc(root):
    fill(root, "JPEGImages/{n}.jpg", "SegmentationClass/{n}.png")
    fill(root, "JPEGImages/{n}.jpg", "SegmentationObject/{n}.png", lambda: labels(9))
    image(root / "JPEGImages/without_a_mask.jpg")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("001\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("010\n002\n")


def cityscapes(root):
    where = "leftImg8bit/{s}/{n}_leftImg8bit.png"
    splits = ("train", "val")
    fill(root, where, "gtFine/{s}/{n}_gtFine_labelIds.png", splits=splits)
    fill(root, where, "gtFine/{s}/{n}_gtFine_color.png", coded([9, 9, 9], [1, 2, 3], [4, 5, 6]), splits)
    fill(root, where, "gtFine/{s}/{n}_gtFine_instanceIds.png", coded(1, 1000, 2000, kind=np.uint16), splits)


def cities(root):
    for city in ("aachen", "bochum"):
        where = f"leftImg8bit/{{s}}/{city}/{{n}}_leftImg8bit.png"
        fill(root, where, f"gtFine/{{s}}/{city}/{{n}}_gtFine_labelIds.png", splits=("train", "val"))


def scenes(root):
    for scene in ("one", "two"):
        fill(root, f"{scene}/images/{{n}}.png", f"{scene}/masks/{{n}}.png")


def sites(root):
    for place, day in (("hill", "monday"), ("hill", "friday"), ("shore", "monday")):
        folder = f"{{s}}/{place}/{day}/{{n}}.png"
        fill(root, f"images/{folder}", f"masks/{folder}", splits=("train", "val"))


def accents(root):
    for name in ("größe", "é1"):
        image(root / "images" / unicodedata.normalize("NFD", f"{name}.jpg"))
        mask(root / "masks" / unicodedata.normalize("NFC", f"{name}.png"), labels(3))


BOTH = ("train", "val")
THREE = "values: [0, 1, 2]"
VOC_COLOURS = coded([0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192])
LAYOUTS = {
    "same names": (lambda r: fill(r, "images/{n}.jpg", "masks/{n}.png"), "all", 3, [THREE, 'images: "images"']),
    "img and label": (lambda r: fill(r, "img/{n}.png", "label/{n}.png"), "all", 3, ['masks: "label"']),
    "numbers": (lambda r: fill(r, "x/{n}.png", "y/{n}.png", names=map(str, range(12))), "all", 3, ['masks: "y"']),
    "PASCAL VOC": (voc, "val", 3, ['masks: "SegmentationClass"', 'list: "ImageSets/Segmentation/{split}.txt"']),
    "mask ending": (lambda r: fill(r, "images/{n}.jpg", "masks/{n}_mask.png"), "all", 3, ['ending: "_mask"']),
    "usual splits": (lambda r: fill(r, "images/{s}/{n}.jpg", "masks/{s}/{n}.png", splits=BOTH), "val", 3, [THREE]),
    "split first": (
        lambda r: fill(r, "{s}/images/{n}.jpg", "{s}/masks/{n}.png", splits=("train", "valid")),
        "valid",
        3,
        ['images: "{split}/images"'],
    ),
    "SegNet": (
        lambda r: fill(r, "{s}/{n}.png", "{s}annot/{n}.png", lambda: labels(12), splits=BOTH),
        "val",
        12,
        ['masks: "{split}annot"', "11 is void in many masks of SegNet's CamVid; if it is here, write `ignore: [11]`"],
    ),
    "Cityscapes": (
        cityscapes,
        "val",
        3,
        ['masks: "gtFine/{split}"', 'ending: "_gtFine_labelIds"', THREE, "neither: 6 in gtFine/train, 6 in gtFine/val"],
    ),
    "cities": (
        cities,
        "val",
        3,
        ['images: "leftImg8bit/{split}/**/*_leftImg8bit', 'masks: "gtFine/{split}/**"', 'ending: "_gtFine_labelIds"'],
    ),
    "scenes": (scenes, "all", 3, ['images: "**/images"', 'masks: "**/masks"']),
    "sites and days": (sites, "val", 3, ['images: "images/{split}/**"', 'masks: "masks/{split}/**"']),
    "palette": (palette, "val", 3, ["masks have a palette, whose indices", THREE]),
    "colours": (
        lambda r: fill(r, "images/{n}.jpg", "annotations/{n}.png", VOC_COLOURS),
        "all",
        3,
        ["values: [[0, 0, 0], [0, 128, 0], [128, 0, 0]]", "ignore: [[224, 224, 192]]"],
    ),
    "ids of 16 bits": (
        lambda r: fill(r, "images/{n}.jpg", "gt/{n}.png", coded(7, 300, 4000, 65535, kind=np.uint16)),
        "all",
        3,
        ["values: [7, 300, 4000]", "ignore: [65535]"],
    ),
    "TIFF": (lambda r: fill(r, "images/{n}.tif", "labels/{n}.tif"), "all", 3, [THREE]),
    "0 and 255": (
        lambda r: fill(r, "images/{n}.jpg", "masks/{n}.gif", coded(0, 255)),
        "all",
        2,
        ["- background  # 0", "- foreground  # "],
    ),
    "0 and 255 in PNG": (
        lambda r: fill(r, "images/{n}.jpg", "masks/{n}.png", coded(0, 255)),
        "all",
        2,
        ["- background  # 0", "- foreground  # 255", "values: [0, 255]", "and no void"],
    ),
    "from 1 to K": (lambda r: fill(r, "i/{n}.jpg", "m/{n}.png", coded(1, 2, 3)), "all", 3, ["values: [1, 2, 3]"]),
    "void 255": (
        lambda r: fill(r, "i/{n}.jpg", "m/{n}.png", coded(0, 1, 255)),
        "all",
        2,
        ["values: [0, 1]", "ignore: [255]  # void. 255: ", "255 is void by convention"],
    ),
    "gaps": (
        lambda r: fill(r, "i/{n}.jpg", "m/{n}.png", coded(0, 1, 4)),
        "all",
        3,
        ["2, 3 occur in none of these masks", "0 is taken for a class; if it is void"],
    ),
    "accents": (accents, "all", 3, [THREE]),
    "side by side": (
        lambda r: fill(r, "{n}.jpg", "{n}_mask.png"),
        "all",
        3,
        ['images: "*.jpg"', 'masks: "*_mask.png"'],
    ),
    "side by side, one ending": (lambda r: fill(r, "{n}.png", "{n}_mask.png"), "all", 3, ['masks: "*_mask"']),
    "beginnings": (lambda r: fill(r, "img_{n}.png", "mask_{n}.png"), "all", 3, ['masks: "mask_*"']),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_proposed_is_read_checked_and_evaluated_unchanged(name, tmp_path, capsys):
    make, split, num_classes, says = LAYOUTS[name]
    make(tmp_path)
    data_command(["init", str(tmp_path)])
    printed, text = capsys.readouterr().out, (tmp_path / "classes.yaml").read_text()
    assert [each for each in says if each not in text] == []
    assert f"--data.split {split}" in printed
    data = Folder(tmp_path, split)
    assert data.label_space.num_classes == num_classes
    with pytest.raises(SystemExit) as done:
        data_command(["check", "--data", "Folder", "--data.root", str(tmp_path), "--data.split", split])
    assert done.value.code == 0, capsys.readouterr().out
    net = network(num_classes)
    report = segrobust.evaluate(net, data, attacks={"fgsm": FGSM()}, eps=[0.01], checks="off", progress=False)
    assert report.summary.num_images == len(data) > 0


SENSORS = {
    "reflectances": ("uint16", 13, 9873, "range: [0, 10000]  # of the sensor; 3 images hold 0..9873", True),
    "12 bits": ("uint16", 1, 3000, "range: [0, 4095]", False),
    "floats": ("float32", 4, 0.75, "range: [0, 1]", True),
    "temperatures": ("float32", 2, 330.5, "range: [0, 331]", False),
    "bytes": ("uint8", 6, 255, "images have 6 channels of uint8", True),
}


@pytest.mark.parametrize("suffix", ["tif", "npy"])
@pytest.mark.parametrize("name", SENSORS)
def test_a_range_and_bands_are_proposed_for_images_of_a_sensor(name, suffix, tmp_path, capsys):
    kind, channels, high, line, has_bands = SENSORS[name]
    for number in ("001", "002", "010"):
        drawn = np.random.default_rng(int(number)).random((*SIZE, channels)) * high
        drawn[0, 0], drawn[0, 1] = 0, high
        path = tmp_path / "images" / f"{number}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        (write_tiff if suffix == "tif" else np.save)(path, drawn.astype(kind))
        mask(tmp_path / "gt" / f"{number}.png", labels(3))
    data_command(["init", str(tmp_path)])
    text = (tmp_path / "classes.yaml").read_text()
    assert line in text
    assert ("bands: [0, 1, 2]" in text) == has_bands
    with pytest.raises(SystemExit) as done:
        data_command(["check", "--data", "Folder", "--data.root", str(tmp_path), "--data.split", "all"])
    assert done.value.code == 0, capsys.readouterr().out
    assert Folder(tmp_path)[0]["image"].shape == (channels, *SIZE)


def proposed(root, drawn):
    """What `data init` writes and says of three images of these values."""
    for number in ("001", "002", "010"):
        path = root / "images" / f"{number}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, drawn)
        mask(root / "gt" / f"{number}.png", labels(3))
    data_command(["init", str(root)])
    return yaml.safe_load((root / "classes.yaml").read_text())


def test_channels_of_different_units_have_a_range_each(tmp_path, capsys):
    drawn = np.random.default_rng(0).random((*SIZE, 3)) * [1, 9_000, 100] + [0, 0, 200]
    assert proposed(tmp_path, drawn.astype(np.float32))["range"] == [[0, 1], [0, 8929], [0, 300]]
    assert "differ by more than 20 times, so each has its own range, which is guessed" in capsys.readouterr().out
    drawn = np.random.default_rng(0).random((*SIZE, 3)) * [9_000, 800, 3_000]  # bands of one unit
    (tmp_path / "one").mkdir()
    assert proposed(tmp_path / "one", drawn.astype(np.uint16))["range"] == [0, 10_000]


@pytest.mark.parametrize(("kind", "mark"), [("int16", -9999), ("uint16", 65535), ("float32", -3e38), ("uint16", 0)])
def test_values_that_mark_missing_data_are_not_in_the_range(kind, mark, tmp_path, capsys):
    drawn = (np.random.default_rng(0).random((*SIZE, 4)) * 900 + 2000).astype(kind)
    drawn[:3] = mark
    written = proposed(tmp_path, drawn)
    assert written["range"][1] == (2900 if kind == "float32" else 4095)
    assert written["clip"] is True
    said = capsys.readouterr().out
    assert f"{float(drawn[0, 0, 0]):.6g}, at 25.0% of the pixels, lies far from all other values" in said
    assert Folder(tmp_path)[0]["image"].min() == 0 or mark > 0


def test_nan_is_counted_and_said(tmp_path, capsys):
    drawn = np.random.default_rng(0).random((*SIZE, 4)).astype(np.float32)
    drawn[:3] = np.nan
    assert proposed(tmp_path, drawn)["range"] == [0, 1]
    assert "NaN, at 25.0% of the pixels, is not read" in capsys.readouterr().out
    with pytest.raises(DataFault, match=r"001\.npy: channel 0 holds NaN at 48 of 192 pixels.*label these pixels void"):
        Folder(tmp_path)[0]


def test_grey_images_say_what_a_network_of_one_channel_needs(tmp_path, capsys):
    fill(tmp_path, "images/{n}.png", "gt/{n}.png")
    for path in (tmp_path / "images").iterdir():
        Image.open(path).convert("L").save(path)
    data_command(["init", str(tmp_path)])
    assert "for a network of one channel write `range: [0, 255]`" in capsys.readouterr().out


def test_images_that_cannot_be_read_are_said(tmp_path, capsys):
    fill(tmp_path, "images/{n}.png", "gt/{n}.png")
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images/002.png")
    data_command(["init", str(tmp_path)])
    said = capsys.readouterr().out
    assert "images cannot be read as they are: " in said
    assert "002.png has an alpha channel (transparency) that is not opaque everywhere" in said
    assert "range" not in yaml.safe_load((tmp_path / "classes.yaml").read_text())


def test_counts_are_those_of_the_masks(tmp_path, capsys):
    image(tmp_path / "images/val/a.png")
    raw = np.zeros(SIZE, dtype=np.uint8)
    raw[0, :3] = 5
    mask(tmp_path / "masks/val/a.png", raw)
    data_command(["init", str(tmp_path)])
    assert "# 5: 3 pixels (1.56 %) in 1 of 1 masks" in (tmp_path / "classes.yaml").read_text()
    assert "189 pixels" in capsys.readouterr().out


@contextmanager
def refused(capsys, message):
    """Within it, a command must end with status 2 and an error."""
    with pytest.raises(SystemExit) as done:
        yield
    assert done.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_file_that_is_there_is_never_replaced_unless_asked(tmp_path, capsys):
    fill(tmp_path, "images/{n}.jpg", "masks/{n}.png")
    path = tmp_path / "classes.yaml"
    path.write_text("names: [mine]\n")
    with refused(capsys, "is there already; --overwrite replaces it"):
        data_command(["init", str(tmp_path)])
    assert path.read_text() == "names: [mine]\n"
    data_command(["init", str(tmp_path), "--overwrite"])
    assert "class_2" in path.read_text()
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with refused(capsys, "unless it is a link"):
        data_command(["init", str(tmp_path), "--overwrite"])
    assert not (tmp_path / "elsewhere").exists()


def test_what_cannot_be_found_is_said(tmp_path, capsys):
    with refused(capsys, r"no images and masks that belong together .*no pictures at all"):
        data_command(["init", str(tmp_path)])
    image(tmp_path / "a/1.jpg")
    image(tmp_path / "b/1.png")
    with refused(capsys, r"1 \.jpg in a, 1 \.png in b"):  # two photographs are no image and mask
        data_command(["init", str(tmp_path)])
    with refused(capsys, "there is no folder"):
        data_command(["init", str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        data_command(["init", str(tmp_path), "--masks", "0"])


def test_links_that_lead_outside_are_left_out(tmp_path, capsys):
    root, outside = tmp_path / "my_data", tmp_path / "outside"
    fill(root, "images/{n}.jpg", "masks/{n}.png")
    mask(outside / "x.png", labels(3))
    (root / "masks/x.png").symlink_to(outside / "x.png")
    (root / "labels").mkdir()
    (root / "labels/001.png").symlink_to(outside / "x.png")
    with refused(capsys, "is a symbolic link to"):
        data_command(["init", str(root)])
    (root / "masks/x.png").unlink()
    data_command(["init", str(root)])
    assert 'masks: "masks"' in (root / "classes.yaml").read_text()


def test_names_are_paired_by_what_they_share():
    (best, *_) = find_pairings(["img_1", "img_2", "img_10"], ["gt_1", "gt_2", "gt_10"])
    assert (best.image, best.mask, best.share) == (Affixes("img_", ""), Affixes("gt_", ""), 1.0)
    assert find_pairings(["a", "b"], ["x", "y"]) == []
