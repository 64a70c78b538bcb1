"""`survey`, and `evaluate.py data check` on folders with one fault of each kind."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
from dataset_trees import voc_tree, write_png
from PIL import Image
from trees import stripes, write_image, write_mask

from segrobust.cli import evaluate
from segrobust.data import Folder, SegmentationDataset, SyntheticScenes
from segrobust.data.files.faults import gathered_faults
from segrobust.data.survey.survey import between_splits, survey
from segrobust.label_space import LabelSpace

SIZE = (8, 12)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "harbour"
    for split, names in (("train", "abcdef"), ("val", "uvwxyz")):
        for seed, name in enumerate(names):
            write_image(root / "images" / split / f"{name}.png", SIZE, seed=ord(name))
            write_mask(root / "masks" / split / f"{name}.png", stripes(SIZE, (0, 1, 1, 255) if seed else (2,)))
    (root / "classes.yaml").write_text("names: [water, quay, boat]\n")
    return root


def check(monkeypatch, *arguments):
    """Exit status of `evaluate.py data check`."""
    monkeypatch.setattr("sys.argv", ["evaluate.py", "data", "check", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        evaluate()
    return caught.value.code


def config(root, path, **more):
    """A file as `train.py` reads it, with keys that a check has no use for."""
    content = {
        "seed_everything": 0,
        "model": {"class_path": "not.there"},
        "data": {
            "class_path": "segrobust.data.SegmentationDataModule",
            "init_args": {
                split: {"class_path": "segrobust.data.Folder", "init_args": {"root": str(root), "split": split}}
                for split in ("train", "val")
            }
            | more,
        },
    }
    path.write_text(json.dumps(content))
    return path


def test_counts_are_those_of_numpy(root):
    single = stripes(SIZE, (0, 1)).copy()
    single[3, 4] = 2
    write_mask(root / "masks" / "val" / "v.png", single)
    data = Folder(root, "val")
    found = survey(data, split="val")
    masks = np.stack([data[index]["mask"].numpy() for index in range(len(data))])
    assert found.class_pixels == tuple(np.count_nonzero(masks == label) for label in range(3))
    assert found.class_images == tuple(np.count_nonzero((masks == label).any((1, 2))) for label in range(3))
    assert found.void_pixels == np.count_nonzero(masks == 255)
    assert found.sizes == {SIZE: 6}
    assert (found.num_images, found.num_read, found.findings) == (6, 6, ())


def test_a_part_is_spread_evenly_and_workers_find_the_same(root):
    data = Folder(root, "val")
    part = survey(data, split="val", max_images=3)
    assert (part.num_images, part.num_read) == (6, 3)
    assert {names[0] for names in part.digests.values()} == {"u", "w", "y"}
    assert survey(data, split="val", num_workers=2) == survey(data, split="val")
    steps = []
    survey(data, split="val", advance=lambda: steps.append(1))
    assert len(steps) == 6
    with pytest.raises(ValueError, match="max_images must be at least 1, got 0"):
        survey(data, split="val", max_images=0)


def test_data_sets_without_files_are_surveyed_before_their_transform():
    found = survey(SyntheticScenes(4, "val", size=(32, 48)), split="val")
    assert found.sizes == {(32, 48): 4}
    assert found.example == ()
    assert sum(found.class_pixels) + found.void_pixels == 4 * 32 * 48


class Own(SegmentationDataset):
    """A user's data set whose labels are wrong in two samples and which cannot read a third."""

    def __init__(self):
        space = LabelSpace(names=("road", "sky"), palette=((0, 0, 0), (1, 1, 1)))
        super().__init__(label_space=space, names=("a", "b", "c", "d"), transform=None)

    def load(self, index):
        if index == 2:
            raise OSError("the disk is gone")
        labels = np.full((3, 4), (0, 7, 0, -1)[index], dtype=np.uint8 if index < 3 else np.int64)
        return np.full((3, 4, 3), index * 60 + 40, dtype=np.uint8), labels

    def describe(self):
        return "own"

    def content(self):
        return {}


def test_own_data_sets_are_surveyed_to_the_end():
    found = survey(Own(), split="val")
    messages = [finding.message for finding in found.findings if finding.severity == "fault"]
    assert messages == [
        "b: labels 7 are neither a class nor void",
        "c: the disk is gone",
        "d: labels must be uint8 or uint16, got int64",
    ]


def spoil(root):
    """One fault of each kind in `val`, and an image of `train` too."""
    images, masks = root / "images" / "val", root / "masks" / "val"
    write_mask(masks / "u.png", stripes(SIZE, (0, 9)))  # foreign label
    (images / "v.png").write_bytes((images / "v.png").read_bytes()[:60])  # cut
    frames = [Image.fromarray(stripes(SIZE, (value,)).astype(np.uint8)) for value in (0, 1)]
    frames[0].save(masks / "w.png", save_all=True, append_images=frames[1:])  # two pictures
    write_mask(masks / "x.png", stripes((9, 12), (0,)))  # another size
    (masks / "y.png").unlink()  # no partner
    write_image(images / "\x1b[2J.png", SIZE)  # a name that clears screens
    shutil.copy(root / "images" / "train" / "a.png", images / "z.png")  # leak


def test_every_fault_is_found_at_once(root, tmp_path, monkeypatch, capsys):
    spoil(root)
    path = config(root, tmp_path / "harbour.yaml")
    assert check(monkeypatch, "--config", path, "--json", tmp_path / "found.json") == 1
    found = json.loads((tmp_path / "found.json").read_text())
    val = next(split for split in found["splits"] if split["split"] == "val")
    assert {finding["kind"] for finding in val["findings"] if finding["severity"] == "fault"} == {
        "labels",
        "unreadable",
        "mode",
        "size",
        "unpaired",
        "name",
    }
    assert [finding["kind"] for finding in found["findings"]] == ["leak"]
    assert val["num_read"] == 3
    printed = capsys.readouterr().out
    for text in ("); allowed are 0..2", "v.png cannot be read", "w.png holds several", "12x8 but its mask"):
        assert text in printed
    assert "1 images of train are also in val: a = z" in printed
    assert "\x1b" not in printed
    assert "7 faults" in printed


def test_a_mask_fault_does_not_hide_an_image_fault(root):
    write_mask(root / "masks" / "val" / "v.png", stripes(SIZE, (9,)))
    path = root / "images" / "val" / "v.png"
    path.write_bytes(path.read_bytes()[:60])
    found = survey(Folder(root, "val"), split="val")
    assert [finding.kind for finding in found.findings] == ["unreadable", "labels"]


def test_warnings_change_the_exit_status_on_request_only(root, tmp_path, monkeypatch, capsys):
    write_mask(root / "masks" / "val" / "u.png", stripes(SIZE, (255,)))
    write_png(root / "images" / "val" / "v.png", np.full((*SIZE, 3), 3, dtype=np.uint8))
    shutil.copy(root / "images" / "val" / "w.png", root / "images" / "val" / "x.png")
    turned = Image.open(root / "images" / "val" / "y.png")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "images" / "val" / "y.png", exif=exif)
    path = config(root, tmp_path / "harbour.yaml")
    assert check(monkeypatch, "--config", path, "--split", "val") == 0
    printed = capsys.readouterr().out
    assert "1 masks have no labelled pixel and leave every statistic: u" in printed
    assert "1 images are near-black: v" in printed
    assert "1 images occur more than once: w = x" in printed
    assert "1 images ask viewers to turn them (EXIF)" in printed
    assert "1 of 3 classes occur in no image that was read: boat" in printed
    assert "0 faults, 5 warnings" in printed
    assert check(monkeypatch, "--config", path, "--split", "val", "--strict") == 1


def test_masks_of_0_and_255_get_a_hint(root):
    (root / "classes.yaml").write_text("names: [water, boat]\n")
    for path in (root / "masks" / "val").iterdir():
        write_mask(path, stripes(SIZE, (0, 255)))
    (finding,) = survey(Folder(root, "val"), split="val").findings
    assert "boat. In masks of 0 and 255, 255 is void: write `values: [0, 255]`" in finding.message


def test_gathering_leaves_out_what_is_at_fault_and_ends_with_its_block(root):
    spoil(root)
    with gathered_faults() as faults:
        data = Folder(root, "val")
    assert data.names == ("u", "v", "z")
    assert len(faults) == 4
    with pytest.raises(ValueError, match="characters that cannot be printed"):
        Folder(root, "val")


def test_splits_of_other_classes_are_told(root, tmp_path):
    other = shutil.copytree(root, tmp_path / "other")
    (other / "classes.yaml").write_text("names: [sea, quay, boat]\n")
    for path in (other / "images" / "val").iterdir():
        write_image(path, SIZE, seed=999)
    surveys = [survey(Folder(root, "train"), split="train"), survey(Folder(other, "val"), split="val")]
    (finding,) = between_splits(surveys)
    assert "the classes of train and val differ: water, quay, boat against sea, quay, boat" in finding.message


def test_a_class_path_and_its_arguments_are_enough(tmp_path, monkeypatch, capsys):
    voc_tree(tmp_path)
    assert check(monkeypatch, "--data", "PascalVOC", "--data.root", tmp_path, "--data.split", "val") == 0
    printed = capsys.readouterr().out
    assert "val      PASCAL VOC 2012 val, 2 images, 21 classes" in printed
    assert "10x15 (1), 15x10 (1)" in printed
    assert "2007_000033.jpg" in printed


def test_options_after_a_file_change_it(root, tmp_path, monkeypatch, capsys):
    path = config(root, tmp_path / "harbour.yaml", train=None)
    arguments = ("--config", path, "--data.init_args.val.init_args.split", "train", "--max_images", 2)
    assert check(monkeypatch, *arguments) == 0
    assert "harbour train, 6 images" in capsys.readouterr().out


def test_another_layout_is_told_for_every_split(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    assert check(monkeypatch, "--config", config(tmp_path / "empty", tmp_path / "c.yaml")) == 1
    printed = capsys.readouterr().out
    assert printed.count("classes.yaml is missing") == 2
    assert "2 faults" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no data: pass --config FILE"),
        (("--data", "SyntheticScenes", "--data.num_scenes", "2", "--max_images", "0"), "--max_images must be at least"),
        (("--data", "SyntheticScenes", "--data.num_scenes", "2", "--samples", "0"), "--samples must be at least 1"),
        (
            ("--data", "SyntheticScenes", "--data.num_scenes", "2", "--json", "no/x.json"),
            "--json: there is no folder no",
        ),
        (("--config",), "--config needs a value FILE"),
        (("--config", "missing.yaml"), "there is no file missing.yaml"),
        (("--data", "NotThere"), "NotThere"),
    ],
)
def test_what_cannot_be_checked_is_told(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    status = check(monkeypatch, *arguments)
    assert status not in (0, 1)
    assert message in f"{status} {capsys.readouterr().err}"


def test_files_without_data_are_told(tmp_path, monkeypatch, root, capsys):
    (tmp_path / "a.yaml").write_text("attacks: {}\n")
    assert check(monkeypatch, "--config", tmp_path / "a.yaml") == 2
    assert "has no `data`" in capsys.readouterr().err
    (tmp_path / "b.yaml").write_text("a: [\n")
    assert check(monkeypatch, f"--config={tmp_path / 'b.yaml'}") == 2
    assert "not YAML" in capsys.readouterr().err
    path = config(root, tmp_path / "c.yaml")
    assert check(monkeypatch, "--config", path, "--split", "test") == 2


def test_what_is_quoted_cannot_steer_the_terminal(root, monkeypatch, capsys):
    (root / "classes.yaml").write_text('names: ["wa\\e[2Jter", quay, boat]\n')
    assert check(monkeypatch, "--data", "Folder", "--data.root", root, "--data.split", "val") == 1
    printed = capsys.readouterr().out
    assert "the name of class 0 'wa\\x1b[2Jter' holds characters that cannot be printed" in printed
    assert "\x1b" not in printed


def test_long_findings_are_cut_and_kept_in_the_file(root, tmp_path, monkeypatch, capsys):
    for index in range(90):
        write_image(root / "images" / "val" / f"without_mask_{index:03d}.png", SIZE)
    arguments = ("--data", "Folder", "--data.root", root, "--data.split", "val", "--json", tmp_path / "found.json")
    assert check(monkeypatch, *arguments) == 1
    printed = capsys.readouterr().out
    assert "90 images without a mask" in printed
    assert "without_mask_089" not in printed
    assert "without_mask_089" in (tmp_path / "found.json").read_text()


def test_commands_of_data_are_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "data"])
    evaluate()
    assert re.findall(r"^  (\w+)  ", capsys.readouterr().out, flags=re.MULTILINE) == ["init", "check", "download"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "data", "chekc"])
    with pytest.raises(SystemExit) as done:
        evaluate()
    assert done.value.code == 2
    assert re.search("chekc.*check", capsys.readouterr().err)


def test_a_picture_is_drawn_of_each_split(root, tmp_path, monkeypatch):
    """Classes with names that matplotlib would read as formulas or leave out of the legend."""
    (root / "classes.yaml").write_text('names: [_water, "$x", "<script>"]\n')
    path = config(root, tmp_path / "harbour.yaml")
    assert check(monkeypatch, "--config", path, "--picture", tmp_path / "look.png", "--samples", "2") == 0
    for name in ("look-train.png", "look-val.png"):
        assert np.asarray(Image.open(tmp_path / name).convert("L")).std() > 10


def test_a_picture_of_what_cannot_be_read_does_not_end_the_check(root, tmp_path, monkeypatch, capsys):
    write_mask(root / "masks" / "val" / "u.png", stripes(SIZE, (9,)))
    arguments = ("--data", "Folder", "--data.root", root, "--data.split", "val", "--picture", tmp_path / "look.png")
    assert check(monkeypatch, *arguments) == 1
    assert "picture  of val could not be drawn" in capsys.readouterr().out
