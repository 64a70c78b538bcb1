"""What is written in a mask is what is read, whatever the file."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from test_grey_masks import write_png

from segrobust.data import Folder
from segrobust.data.files.masks import mask_size, read_colors, read_values
from segrobust.data.files.value_table import pack
from segrobust.untrusted.data_fault import DataFault

SIZE = (5, 7)


def values(bits):
    return np.random.default_rng(bits).integers(0, 2**bits, SIZE)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)


WRITERS = {
    "1 bit.png": (1, lambda path, raw: save(path, raw.astype(bool))),
    "1 bit grey.png": (1, lambda path, raw: write_png(path, raw.astype(np.uint8), 1, 0)),
    "1 bit palette.png": (1, lambda path, raw: write_png(path, raw.astype(np.uint8), 1, 3)),
    "2 bits.png": (2, lambda path, raw: write_png(path, raw.astype(np.uint8), 2, 0)),
    "8 bits.png": (8, lambda path, raw: save(path, raw.astype(np.uint8))),
    "16 bits.png": (16, lambda path, raw: save(path, raw.astype(np.uint16))),
    "1 bit.tif": (1, lambda path, raw: save(path, raw.astype(bool))),
    "8 bits.tif": (8, lambda path, raw: save(path, raw.astype(np.uint8), compression="tiff_lzw")),
    "16 bits.tif": (16, lambda path, raw: save(path, raw.astype(np.uint16))),
    "16 bits, the other byte order.tiff": (16, lambda path, raw: save(path, raw.astype(">u2"))),
    "32 bits.tif": (24, lambda path, raw: save(path, raw.astype(np.int32))),
    "floats.tif": (16, lambda path, raw: save(path, raw.astype(np.float32))),
    "8 bits.bmp": (8, lambda path, raw: save(path, raw.astype(np.uint8))),
    "1 bit.bmp": (1, lambda path, raw: save(path, raw.astype(bool))),
    "grey.gif": (8, lambda path, raw: save(path, raw.astype(np.uint8), optimize=False)),
    "rgb.png": (8, lambda path, raw: save(path, np.stack([raw.astype(np.uint8)] * 3, -1))),
    "rgba.png": (8, lambda path, raw: save(path, np.stack([raw, raw, raw, 0 * raw + 255], -1).astype(np.uint8))),
    "grey and alpha.png": (8, lambda path, raw: save(path, np.stack([raw, 0 * raw + 255], -1).astype(np.uint8))),
    "bytes.npy": (8, lambda path, raw: np.save(path, raw.astype(np.uint8))),
    "booleans.npy": (1, lambda path, raw: np.save(path, raw.astype(bool))),
    "big endian.npy": (16, lambda path, raw: np.save(path, raw.astype(">u2"))),
    "columns first.npy": (24, lambda path, raw: np.save(path, np.asfortranarray(raw))),
    "floats.npy": (16, lambda path, raw: np.save(path, raw.astype(np.float64))),
    "one channel.npy": (8, lambda path, raw: np.save(path, raw[None])),
    "one channel last.npy": (8, lambda path, raw: np.save(path, raw[..., None])),
}


@pytest.mark.parametrize("name", WRITERS)
def test_integers_come_back(tmp_path, name):
    bits, write = WRITERS[name]
    path, raw = tmp_path / name, values(bits)
    write(path, raw)
    assert mask_size(path, None) == SIZE
    np.testing.assert_array_equal(read_values(path), raw)


@pytest.mark.parametrize("name", ["rgb.png", "rgba.png", "palette.png", "rgb.tif", "rgb.bmp", "grey.png"])
def test_colours_come_back(tmp_path, name):
    table = np.random.default_rng(0).integers(0, 256, (9, 3), dtype=np.uint8)
    if name == "grey.png":
        table[:] = table[:, :1]
    labels = np.random.default_rng(1).integers(0, 9, SIZE)
    picture = Image.fromarray(table[labels])
    if name == "palette.png":
        picture = Image.fromarray(labels.astype(np.uint8))
        picture.putpalette(table.tobytes() + bytes(768 - 27))
    picture = picture.convert({"rgba.png": "RGBA", "grey.png": "L"}.get(name, picture.mode))
    picture.save(tmp_path / name)
    expected = [[pack(tuple(table[label].tolist())) for label in row] for row in labels]
    assert read_colors(tmp_path / name).tolist() == expected


def animated(path):
    frames = [Image.fromarray(np.full(SIZE, value, dtype=np.uint8)) for value in (0, 9)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def white_is_zero(path):
    Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(path, tiffinfo={TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: 0})


def rgb_of_16_bits(path):
    write_png(path, np.zeros((SIZE[0], SIZE[1] * 3), dtype=np.uint16), 16, 0)
    content = bytearray(path.read_bytes())
    content[16:20], content[25] = SIZE[1].to_bytes(4, "big"), 2
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(bytes(content))


REFUSED = {
    "several pages.tif": (animated, "holds several pictures"),
    "moving.gif": (animated, "holds several pictures"),
    "moving.png": (animated, "holds several pictures"),
    "white is zero.tif": (white_is_zero, "white is zero"),
    "16 bits.png": (rgb_of_16_bits, "several channels of 16 bits"),
    "clear.png": (lambda path: save(path, np.zeros((*SIZE, 4), dtype=np.uint8)), "35 of 35 pixels are transparent"),
    "colour.png": (lambda path: save(path, np.tile(np.uint8([9, 8, 7]), (*SIZE, 1))), r"such as \[9, 8, 7\].*`values"),
    "cmyk.tif": (lambda path: Image.new("CMYK", SIZE[::-1]).save(path), "has mode CMYK"),
    "halves.tif": (lambda path: save(path, np.full(SIZE, 0.5, dtype=np.float32)), "numbers that are not integers"),
    "nan.npy": (lambda path: np.save(path, np.full(SIZE, np.nan)), "numbers that are not integers"),
    "channels.npy": (lambda path: np.save(path, np.zeros((3, *SIZE))), r"the shape \(3, 5, 7\)"),
    "objects.npy": (lambda path: np.save(path, np.array([[print]], dtype=object)), "only arrays of numbers"),
    "words.npy": (lambda path: np.save(path, np.full(SIZE, "a")), "only arrays of numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_integer_per_pixel_is_refused_by_name(tmp_path, name):
    write, says = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(DataFault, match=rf"{name}.*{says}"):
        read_values(tmp_path / name)


def one_sample(root, raw, text, suffix=".png"):
    for part in ("images/val", "masks/val"):
        (root / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*raw.shape[:2], 3), dtype=np.uint8)).save(root / "images/val/a.png")
    save(root / f"masks/val/a{suffix}", raw)
    (root / "classes.yaml").write_text(text)
    return Folder(root, "val")


@pytest.mark.parametrize(
    ("keys", "raw", "says"),
    [
        (
            "",
            [[0, 2]],
            r"1 of 2 pixels hold 2 \(1\).*numbered from 1 .*`values: 1\.\.K` and `ignore: 0`",
        ),
        ("", [[7, 9]], r"If these are the classes, write `values: \[7, 9\]`"),
        ("", [[0, 7]], r"If they are void, add them to `ignore: \[7\]`"),
        ("ignore: 7", [[7, 255]], r"hold 255 \(1\); allowed are 0, 1 for classes and 7 for void"),
        ("values: [0, 255]", [[0, 254]], r"hold 254 \(1\); allowed are 0, 255 for classes and nothing for void"),
    ],
)
def test_an_unknown_value_says_what_to_write(tmp_path, keys, raw, says):
    data = one_sample(tmp_path, np.array(raw, dtype=np.uint8), f"names: [water, quay]\n{keys}\n")
    with pytest.raises(DataFault, match=rf"masks/val/a\.png: .*{says}"):
        data[0]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("values: [0]", "1 entries for 2 classes"),
        ("values: 0", "must be a list"),
        ("values: [0, 0]", "0 stands for class 0 and for class 1"),
        ("values: [0, '#010203']", "integers or colours, and not both"),
        ("values: [0, [7, 8, 0]]", "0 stands for class 0 and for class 1"),
        ("values: [1..3, [3, 4]]", "3 stands for class 0 and for class 1"),
        ("values: [0, []]", "a class has an empty list"),
        ("values: {water: 0}", "one entry for each of the names, and 'quay' has no value"),
        ("values: {water: 0, quay: 1, boat: 2}", "'boat' is no class"),
        ("values: [0, [7, 8]]\nignore: [8, 9]", "8 is in ignore and among the values of class 1"),
        ("ignore: [9, 7..9]", "9 is there twice"),
        ("values: [0, 1.5]", "an integer that masks can hold"),
        ("values: [0, yes]", "an integer that masks can hold"),
        ("values: [[0, 0, 0], [0, 0, 256]]", r"\[r, g, b\] of 0\.\.255"),
        ("values: 1..5", "5 entries for 2 classes"),
        ("values: 5..1", "from a smaller number"),
        ("values: ['#ff0000', '#ff00']", "'#rrggbb' in quotes"),
        ("values: [[0, 0, 0], [1, 1, 1]]\nignore: 255", "write colours"),
        ("ignore: [0, '#ff0000']", "write integers"),
        ("values: [0, 255]\nignore_index: 7", "write its value into ignore"),
        ("ending: _mask.jpg", r"\.jpg is not read here"),
        ("ending: ../x", "how names end"),
        ("ending: 5", "how mask names end"),
        ("ending: _m\nmasks: 'm/*_m'", "write one of them"),
        ("images: /etc", "must lie below this folder"),
        ("masks: '{split}/../..'", "must lie below this folder"),
        ("images: 'a/*/b*'", r"may have one \*"),
        ("images: '**/a/**'", r"one \*\*, for folders at any depth after \{split\}"),
        ("images: '**/{split}'", r"one \*\*, for folders at any depth after \{split\}"),
        ("images: 'a**/b'", r"may have one \*"),
        ("masks: masks", "one mask would serve several splits"),
    ],
)
def test_a_key_of_another_form_is_named(tmp_path, keys, says):
    with pytest.raises(DataFault, match=rf"classes\.yaml: .*{says}"):
        one_sample(tmp_path, np.zeros((1, 2), dtype=np.uint8), f"names: [water, quay]\n{keys}\n")


RED, GREY, BLUE = [200, 0, 0], [90, 90, 90], [0, 0, 200]


@pytest.mark.parametrize(
    ("keys", "raw", "labels"),
    [
        ("values: [0, [7, 8, 9]]", [[0, 7, 8, 9]], [[0, 1, 1, 1]]),
        ("values: [0..127, 128..255]", [[0, 127, 128, 255]], [[0, 0, 1, 1]]),
        ("values: [[4, 5], 6]\nignore: [0, 250..255]", [[4, 5, 6, 0, 251]], [[0, 0, 1, 255, 255]]),
        ("values: {quay: [7, 8], water: 3}", [[3, 7, 8]], [[0, 1, 1]]),
        ("values: [[4, 5], 6]\nignore: [4, 5]", [[4, 5, 6]], [[255, 255, 1]]),
        (f"values: [{RED}, [{GREY}, '#0000c8']]", [[RED, GREY, BLUE]], [[0, 1, 1]]),
        (f"values: [[{RED}, {GREY}], {BLUE}]\nignore: [[0, 0, 0], [1, 1, 1]]", [[GREY, [1, 1, 1]]], [[0, 255]]),
    ],
)
def test_a_class_may_have_several_values(tmp_path, keys, raw, labels):
    data = one_sample(tmp_path, np.array(raw, dtype=np.uint8), f"names: [water, quay]\n{keys}\n")
    assert data[0]["mask"].tolist() == labels
    assert data.label_space.num_classes == 2


def test_three_integers_are_a_colour_and_grey_masks_say_so(tmp_path):
    data = one_sample(tmp_path, np.array([[1, 4]], dtype=np.uint8), "names: [a, b]\nvalues: [[1, 2, 3], [4, 5, 6]]\n")
    with pytest.raises(DataFault, match=r"The masks are grey, .* write `7\.\.9`"):
        data[0]
    data = one_sample(tmp_path, np.array([[1, 4]], dtype=np.uint8), "names: [a, b]\nvalues: [1..3, 4..6]\n")
    assert data[0]["mask"].tolist() == [[0, 1]]
    assert data.describe().endswith("(values [1..3], [4..6])")


@pytest.mark.parametrize(("mode", "says"), [("P", "has a palette, and its indices are read"), ("1", "is of 1 bit")])
def test_a_value_that_viewers_show_otherwise_is_explained(tmp_path, mode, says):
    data = one_sample(tmp_path, np.array([[0, 1]], dtype=np.uint8), "names: [a, b]\nvalues: [0, 255]\n")
    picture = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    if mode == "P":
        picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
        picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(tmp_path / "masks/val/a.png")
    with pytest.raises(DataFault, match=rf"pixels hold 1 \(1\); .*{says}"):
        data[0]


def test_an_ending_chooses_among_the_formats_of_a_sample(tmp_path):
    one_sample(tmp_path, np.array([[1, 1]], dtype=np.uint8), "names: [a, b]\n")
    one_sample(tmp_path, np.array([[0, 1]], dtype=np.uint8), "names: [a, b]\nending: .tif\n", ".tif")
    assert Folder(tmp_path, "val")[0]["mask"].tolist() == [[0, 1]]
    (tmp_path / "classes.yaml").write_text("names: [a, b]\n")
    with pytest.raises(DataFault, match="two files for one sample"):
        Folder(tmp_path, "val")


def test_a_folder_without_splits_takes_no_split_and_one_with_splits_lists_them(tmp_path):
    data = one_sample(tmp_path, np.zeros((1, 2), dtype=np.uint8), "names: [a, b]\n")
    with pytest.raises(DataFault, match=r"images/all; the splits there are val"):
        Folder(tmp_path)
    (tmp_path / "classes.yaml").write_text("names: [a, b]\nimages: images/val\nmasks: masks/val\n")
    assert Folder(tmp_path).names == data.names
    with pytest.raises(ValueError, match="every split would be the same images: split is 'all', got 'val'"):
        Folder(tmp_path, "val")


def test_how_masks_are_read_is_said_and_part_of_the_fingerprint(tmp_path):
    prints = set()
    for keys in ("", "ignore: 1\n", "values: [1, 0]\n", "values: [0, 1]\n"):
        data = one_sample(tmp_path, np.array([[0, 1]], dtype=np.uint8), "names: [a, b]\n" + keys)
        prints.add(data.fingerprint())
    assert len(prints) == 4
    void = one_sample(tmp_path, np.array([[0, 1]], dtype=np.uint8), "names: [a, b]\nignore_index: 0\n")
    assert void.describe().endswith("2 classes (class 0 'a' is void)")
    data = one_sample(tmp_path, np.array([[0, 1]], dtype=np.uint8), "names: [a, b]\nvalues: [0, 1]\n")
    assert data.describe().endswith("1 images, 2 classes (values 0, 1)")
