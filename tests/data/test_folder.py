import numpy as np
import pytest
import torch
from PIL import Image
from trees import stripes, write_image, write_mask

from segrobust.data import Folder
from segrobust.data.files.class_colors import default_palette

SIZE = (11, 15)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "harbour"
    for index, suffix in enumerate((".png", ".jpg", ".png")):
        write_image(root / "images" / "val" / f"frame{index}{suffix}", SIZE, seed=index)
        write_mask(root / "masks" / "val" / f"frame{index}.png", stripes(SIZE, (0, 1, 2, 255)), palette=index == 2)
    (root / "classes.yaml").write_text("names: [water, quay, boat]\n")
    return root


def write_classes(root, text):
    (root / "classes.yaml").write_text(text)


@pytest.mark.parametrize("index", [0, 2])
def test_grey_and_palette_masks_give_their_indices(root, index):
    data = Folder(root, "val")
    assert torch.equal(data[index]["mask"], torch.from_numpy(stripes(SIZE, (0, 1, 2, 255)).copy()).long())
    assert data[index]["image"].shape == (3, *SIZE)
    assert data.names == ("frame0", "frame1", "frame2")
    assert data.label_space.names == ("water", "quay", "boat")
    assert data.sequences == data.names
    assert data.describe() == "harbour val, 3 images, 3 classes"


def test_classes_may_bring_colours_and_another_void(root):
    write_classes(root, "names: [water, quay]\npalette: [[0, 0, 9], [9, 9, 9]]\nignore_index: 2\n")
    write_mask(root / "masks" / "val" / "frame0.png", stripes(SIZE, (0, 1, 2)))
    data = Folder(root, "val")
    assert data.label_space.palette == ((0, 0, 9), (9, 9, 9))
    data.label_space.check(data[0]["mask"])
    with pytest.raises(ValueError, match=r"frame1\.png: .* hold 255 \(33\); allowed are 0, 1 for .* and 2 for void"):
        data[1]


@pytest.mark.parametrize("size", [(7, 5), (23, 31)])
def test_odd_sizes_keep_the_labels(root, size):
    sample = Folder(root, "val", size=size)[2]
    assert sample["image"].shape == (3, *size)
    assert sample["mask"].shape == size
    assert set(sample["mask"].unique().tolist()) <= {0, 1, 2, 255}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, [", "is not YAML"),
        ("- water\n", r"must hold names.*got \['water'\]"),
        ("classes: [a]\n", r"must hold names.*got \['classes'\]"),
        ("names: [a]\ncolors: []\n", r"got \['colors', 'names'\]"),
        ("names: [a, b]\nvalue: [0, 255]\nRange: [0, 1]\n", r"'value' may be values, 'Range' may be range"),
        ("names: [a, 1]\n", "list of strings"),
        ("names: [a, a]\n", "more than once: a"),
        ("names: [a, b]\npalette: [[0, 0, 0]]\n", "1 colours for 2 classes"),
        ("names: [a, b]\npalette: [red, blue]\n", r"list of \[R, G, B\]"),
        ("names: [a, b]\nignore_index: -1\n", "a mask can hold, 0..65535, got -1"),
    ],
)
def test_bad_files_of_classes_are_named(root, text, message):
    write_classes(root, text)
    with pytest.raises(ValueError, match=rf"(?s)classes\.yaml.*{message}"):
        Folder(root, "val")


def test_keys_of_images_and_of_masks_go_together(tmp_path):
    values, labels = np.array([[0, 5000], [10_000, 2500]], dtype=np.uint16), np.array([[7, 9], [7, 0]], dtype=np.uint8)
    for folder in ("sensor/val", "gt/val"):
        (tmp_path / folder).mkdir(parents=True)
    np.save(tmp_path / "sensor/val/a.npy", np.stack([values] * 5))
    np.save(tmp_path / "gt/val/a_mask.npy", labels)
    text = "images: sensor/{split}\nmasks: gt/{split}\nending: _mask.npy\nvalues: [7, 9]\nignore: 0\n"
    write_classes(tmp_path, f"names: [a, b]\n{text}range: [0, 10000]\nbands: [4, 1, 0]\nclip: true\n")
    data = Folder(tmp_path, "val")
    np.testing.assert_allclose(data[0]["image"][4].numpy(), values / 10_000, atol=1e-7)
    assert data[0]["mask"].tolist() == [[0, 1], [0, 255]]
    assert "5 channels of uint16, range 0..10000 (values 7, 9, void 0)" in data.describe()


def test_classes_are_never_python(root):
    write_classes(root, "names: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match=r"python/object/apply:os\.getcwd' is a tag; only plain values are read"):
        Folder(root, "val")


def test_missing_pieces_are_named(root):
    with pytest.raises(ValueError, match=r"the folder of images is missing: .*train"):
        Folder(root, "train")
    (root / "images" / "train").mkdir()
    with pytest.raises(ValueError, match=r"no images in .*train; looked for .*\.jpg"):
        Folder(root, "train")
    (root / "classes.yaml").unlink()
    with pytest.raises(ValueError, match=r"classes\.yaml is missing; write into it `names:"):
        Folder(root, "val")


@pytest.mark.parametrize("split", ["", "..", "a/b", "../val"])
def test_a_split_is_one_folder_name(root, split):
    with pytest.raises(ValueError, match="name of a folder below"):
        Folder(root, split)


def test_default_colours_follow_voc_and_differ():
    palette = default_palette(255)
    assert palette[:5] == ((128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128))
    assert palette[14] == (192, 128, 128)
    assert len(set(palette)) == 255
    assert (0, 0, 0) not in palette


def write_colors(root, name, colors):
    path = root / "masks" / "val" / f"{name}.png"
    Image.fromarray(np.asarray(colors, dtype=np.uint8)[stripes(SIZE, (0, 1, 2, 3))]).save(path)


COLORS = [(0, 0, 200), (90, 90, 90), (200, 0, 0)]


def test_masks_in_the_colours_of_the_palette_are_read(root):
    write_classes(root, f"names: [water, quay, boat]\npalette: {[list(color) for color in COLORS]}\n")
    write_colors(root, "frame0", [*COLORS, (0, 0, 0)])
    data = Folder(root, "val")
    expected = torch.from_numpy(stripes(SIZE, (0, 1, 2, 255)).copy()).long()
    assert torch.equal(data[0]["mask"], expected)
    assert torch.equal(data[1]["mask"], expected)  # an index mask beside it
    assert data[0]["image"].shape == (3, *SIZE)


def test_void_may_have_another_colour(root):
    write_classes(
        root,
        f"names: [water, quay, boat]\npalette: {[list(color) for color in COLORS]}\n"
        "void_color: [224, 224, 192]\nignore_index: 7\n",
    )
    for name in ("frame0", "frame1", "frame2"):
        write_colors(root, name, [*COLORS, (224, 224, 192)])
    assert torch.equal(Folder(root, "val")[0]["mask"], torch.from_numpy(stripes(SIZE, (0, 1, 2, 7)).copy()).long())
    write_colors(root, "frame1", [*COLORS, (0, 0, 0)])
    with pytest.raises(ValueError, match=r"frame1\.png: 33 of 165 pixels hold \(0, 0, 0\) \(33\)"):
        Folder(root, "val")[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, b]\nvoid_color: [1, 2, 3]\n", "which need a palette"),
        ("names: [a, b]\npalette: [[0, 0, 0], [1, 1, 1]]\nvoid_color: [1, 1, 1]\n", "also the colour of class 'b'"),
        ("names: [a, b]\npalette: [[0, 0, 0], [1, 1, 1]]\nvoid_color: red\n", r"list of \[R, G, B\]"),
    ],
)
def test_colours_that_cannot_be_told_apart_are_named(root, text, message):
    write_classes(root, text)
    with pytest.raises(ValueError, match=rf"classes\.yaml.*{message}"):
        Folder(root, "val")


@pytest.mark.parametrize("palette", ["", "palette: [[1, 1, 1], [1, 1, 1], [2, 2, 2]]\n"])
def test_colours_without_a_palette_that_can_be_read_back_are_refused(root, palette):
    write_classes(root, "names: [water, quay, boat]\n" + palette)
    write_colors(root, "frame0", [*COLORS, (0, 0, 0)])
    with pytest.raises(ValueError, match=r"frame0\.png is in colours, such as \[0, 0, 200\]; write .*`values: \[\["):
        Folder(root, "val")[0]


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere \(in "):
        Folder(tmp_path / "nowhere", "val")
