"""Images of any number of channels and any range, from files that other code wrote."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiffs import write_tiff
from trees import stripes, write_mask

from segrobust.cli.data_command import data_command
from segrobust.data import EvalTransform, Folder, SegmentationDataModule, TrainTransform, VoidAsClass
from segrobust.data.survey.survey import survey
from segrobust.data.survey.survey_picture import draw_samples
from segrobust.evaluation.image_values import describe_images
from segrobust.untrusted.data_fault import DataFault
from segrobust.value_range import ValueRange

SIZE = (11, 15)


def values(channels, dtype="uint16", high=10_000, size=SIZE):
    drawn = np.random.default_rng(channels).integers(0, high + 1, (*size, channels))
    drawn[0, 0], drawn[0, 1] = 0, high
    return (drawn / high if dtype.startswith("float") else drawn).astype(dtype)


def folder(root, write, text="range: [0, 10000]\n", name="a.tif", size=SIZE):
    path = root / "images" / "val" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    write_mask(root / "masks" / "val" / "a.png", stripes(size, (0, 1, 255)))
    (root / "classes.yaml").write_text(f"names: [water, quay]\n{text}")
    return root


def image_of(root):
    return Folder(root, "val")[0]["image"]


def expected(stored, high=10_000, low=0):
    return torch.from_numpy(((stored.astype(np.float64) - low) / (high - low)).astype(np.float32)).permute(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 13])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"planar": True},
        {"order": ">"},
        {"order": ">", "planar": True, "deflate": True},
        {"big": True},
        {"tile": 16, "deflate": True},
        {"extra": 2},
        {"photometric": 2},
    ],
    ids=str,
)
def test_tiffs_of_16_bits_have_all_channels(tmp_path, channels, options):
    if options.get("photometric") == 2 and channels < 3:
        pytest.skip("RGB has three channels")
    stored = values(channels)
    root = folder(tmp_path, lambda path: write_tiff(path, stored, **options))
    assert torch.equal(image_of(root), expected(stored))


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64", "uint32", "int8", "uint8"])
def test_tiffs_of_other_types(tmp_path, dtype):
    high = 100 if dtype.endswith("int8") else 10_000
    stored = values(5, dtype, high)
    top = 1 if dtype.startswith("float") else high
    root = folder(tmp_path, lambda path: write_tiff(path, stored), f"range: [0, {top}]\n")
    assert torch.equal(image_of(root), expected(stored, top))
    assert (
        Folder(root, "val").describe()
        == f"{tmp_path.name} val, 1 images, 2 classes, 5 channels of {dtype}, range 0..{top}"
    )


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", "i4", "u1"])
@pytest.mark.parametrize("layout", ["first", "last", "fortran"])
def test_arrays_have_their_channels_first_or_last(tmp_path, dtype, layout):
    stored = values(4, "uint8", 100).astype(dtype)
    written = {"first": stored.transpose(2, 0, 1), "last": stored, "fortran": np.asfortranarray(stored)}[layout]
    root = folder(tmp_path, lambda path: np.save(path, written), "range: [-10, 110]\n", "a.npy")
    assert torch.equal(image_of(root), expected(stored, 110, -10))


def test_arrays_of_one_and_two_channels(tmp_path):
    for name, stored in (("flat", values(1)[..., 0]), ("two", values(2))):
        root = folder(tmp_path / name, lambda path, stored=stored: np.save(path, stored), name="a.npy")
        assert torch.equal(image_of(root), expected(stored.reshape(*SIZE, -1)))


def test_bytes_of_any_number_of_channels_need_no_range(tmp_path):
    stored = values(4, "uint8", 255)
    for name, write in (("a.npy", np.save), ("b.tif", write_tiff)):
        root = folder(tmp_path / name, lambda path, write=write: write(path, stored), "", f"a{name[1:]}")
        assert torch.equal(image_of(root), expected(stored, 255))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pngs_of_16_bits_keep_their_lower_half(tmp_path, channels):
    stored = values(channels, high=65_535)
    bgr = stored[..., [2, 1, 0, 3][:channels] if channels > 1 else [0]]
    root = folder(tmp_path, lambda path: cv2.imwrite(str(path), bgr), "range: [0, 65535]\n", "a.png")
    assert torch.equal(image_of(root), expected(stored, 65_535))


def test_pngs_of_8_bits_with_a_range_are_read_as_they_are_stored(tmp_path):
    for channels in (1, 2, 3, 4):
        stored = values(channels, "uint8", 255)
        picture = Image.fromarray(stored[..., 0] if channels == 1 else stored)
        root = folder(tmp_path / str(channels), picture.save, "range: [0, 255]\n", "a.png")
        assert torch.equal(image_of(root), expected(stored, 255))


def test_each_channel_may_have_a_range(tmp_path):
    stored = values(3, "float32")
    stored[..., 1] = 250 + 50 * stored[..., 1]
    root = folder(tmp_path, lambda path: write_tiff(path, stored), "range: [[0, 1], [200, 300.5], [-1, 1]]\n")
    found = image_of(root)
    for channel, (low, high) in enumerate(((0, 1), (200, 300.5), (-1, 1))):
        plane = stored[..., [channel]]
        assert torch.equal(found[[channel]], expected(plane, high, low))


def test_values_outside_the_range_are_named_or_clipped(tmp_path):
    stored = values(4)
    stored[3, 4, 2] = 10_213
    root = folder(tmp_path, lambda path: write_tiff(path, stored))
    with pytest.raises(DataFault, match=r"a\.tif: channel 2 holds 10213 .* outside the range 0\.\.10000, at 1 of 165"):
        image_of(root)
    (root / "classes.yaml").write_text("names: [water, quay]\nrange: [0, 10000]\nclip: true\n")
    assert torch.equal(image_of(root), expected(stored.clip(0, 10_000)))


def test_nan_is_an_error_even_where_values_are_clipped(tmp_path):
    stored = values(2, "float32")
    stored[1, 1, 1] = np.nan
    for name, text in (("refused", "range: [0, 1]\n"), ("clipped", "range: [0, 1]\nclip: true\n")):
        root = folder(tmp_path / name, lambda path: np.save(path, stored), text, "a.npy")
        with pytest.raises(DataFault, match=r"a\.npy: channel 1 holds NaN at 1 of 165 pixels"):
            image_of(root)


def rgba(opacity, mode="RGBA"):
    pixels = values(4, "uint8", 255)
    pixels[..., 3] = opacity
    return Image.fromarray(pixels).convert(mode)


def palette_with_transparency(path, alpha):
    picture = Image.fromarray(values(3, "uint8", 255)).quantize(8)
    picture.save(path, transparency=bytes([alpha] * 8))


def test_opaque_alpha_is_left_out(tmp_path):
    for name, write in (
        ("rgba", rgba(255).save),
        ("grey", rgba(255, "LA").save),
        ("palette", lambda path: palette_with_transparency(path, 255)),
    ):
        root = folder(tmp_path / name, write, "", "a.png")
        with Image.open(root / "images" / "val" / "a.png") as picture:
            wanted = np.array(picture.convert("RGBA"))[..., :3]
        assert torch.equal(image_of(root), expected(wanted, 255))


REFUSED = {
    "alpha": (rgba(254).save, "a.png", r"alpha channel .* not opaque everywhere"),
    "grey with alpha": (rgba(9, "LA").save, "a.png", r"alpha channel .* not opaque everywhere"),
    "alpha of a TIFF": (rgba(9).save, "a.tif", r"alpha channel .* not opaque everywhere"),
    "transparent palette": (lambda path: palette_with_transparency(path, 0), "a.png", r"alpha channel .* not opaque"),
    "16-bit grey": (lambda path: cv2.imwrite(str(path), values(1)), "a.png", r"values of uint16.*state the range"),
    "16-bit colour": (lambda path: cv2.imwrite(str(path), values(3)), "a.png", r"values of uint16.*state the range"),
    "12 bits in a TIFF": (lambda path: write_tiff(path, values(4, high=4095)), "a.tif", r"uint16.*\[0, 4095\]"),
    "16-bit RGB in a TIFF": (
        lambda path: write_tiff(path, values(3), photometric=2),
        "a.tif",
        r"values of uint16.*state the range",
    ),
    "floats": (lambda path: np.save(path, values(3, "float32")), "a.npy", r"values of float32.*state the range"),
    "pages": (lambda path: write_tiff(path, *[values(1, "uint8", 200)] * 3), "a.tif", r"holds 3 pictures \(pages\)"),
    "an animation": (
        lambda path: rgba(255).save(path, save_all=True, append_images=[rgba(255).rotate(90)]),
        "a.png",
        r"holds 2 pictures",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_cut_off_is_refused(tmp_path, kind):
    write, name, message = REFUSED[kind]
    root = folder(tmp_path, write, "", name)
    with pytest.raises(DataFault, match=message):
        image_of(root)


NO_MEASUREMENTS = {
    "pages": (lambda path: write_tiff(path, values(4), values(4)), "a.tif", r"holds 2 pictures"),
    "palette": (lambda path: palette_with_transparency(path, 255), "a.png", r"mode P"),
    "palette of a TIFF": (Image.fromarray(values(3, "uint8", 255)).quantize(8).save, "a.tif", r"kind palette"),
    "white is zero": (lambda path: write_tiff(path, values(1), photometric=0), "a.tif", r"kind white is zero"),
    "2 bits": (
        lambda path: Image.fromarray(values(3, "uint8", 255)).quantize(4).save(path, bits=2),
        "a.png",
        r"mode P",
    ),
    "1 bit": (Image.new("1", SIZE[::-1]).save, "a.png", r"mode 1"),
    "a transparent colour": (
        lambda path: Image.fromarray(values(3, "uint8", 255)).save(path, transparency=(1, 2, 3)),
        "a.png",
        r"mode RGB and a transparent colour",
    ),
    "CMYK": (Image.new("CMYK", SIZE[::-1]).save, "a.jpg", r"mode CMYK"),
    "objects": (lambda path: np.save(path, np.array([[None]]), allow_pickle=True), "a.npy", r"only arrays of numbers"),
    "complex": (lambda path: np.save(path, np.zeros(SIZE, complex)), "a.npy", r"only arrays of numbers"),
    "four dimensions": (lambda path: np.save(path, np.zeros((1, *SIZE, 3))), "a.npy", r"shape \(1, 11, 15, 3\)"),
    "another size": (lambda path: np.save(path, np.zeros((9, 9, 3))), "a.npy", r"neither .* of a mask of 11 x 15"),
    "a mask inside": (
        lambda path: write_tiff(path, values(4), values(4), tags={254: 4}),
        "a.tif",
        r"mask of valid pixels",
    ),
    "no picture": (lambda path: path.write_bytes(b"GIF89a"), "a.tif", r"must hold a TIFF"),
}


@pytest.mark.parametrize("kind", NO_MEASUREMENTS)
def test_what_is_no_measurement_is_refused(tmp_path, kind):
    write, name, message = NO_MEASUREMENTS[kind]
    root = folder(tmp_path, write, name=name)
    with pytest.raises(DataFault, match=message):
        image_of(root)


def test_overviews_are_no_pages(tmp_path):
    stored = values(4)
    root = folder(tmp_path, lambda path: write_tiff(path, values(4, size=(5, 7)), stored, tags={254: 1}))
    with pytest.raises(DataFault, match="states"):  # an overview that comes first is not what a reader opens first
        image_of(root)
    write_tiff(root / "images" / "val" / "a.tif", stored, order=">")
    assert torch.equal(image_of(root), expected(stored))


def test_an_array_whose_channels_may_be_first_or_last_is_refused(tmp_path):
    root = folder(tmp_path, lambda path: np.save(path, np.zeros((4, 4, 4))), name="a.npy", size=(4, 4))
    with pytest.raises(DataFault, match=r"both \(H, W, C\) and \(C, H, W\) of a mask of 4 x 4"):
        Folder(root, "val")


def test_all_images_have_the_same_channels(tmp_path):
    root = folder(tmp_path, lambda path: write_tiff(path, values(4)))
    write_tiff(root / "images" / "val" / "b.tif", values(3))
    write_mask(root / "masks" / "val" / "b.png", stripes(SIZE, (0, 1)))
    with pytest.raises(DataFault, match=r"b\.tif has 3 channels, .*a\.tif has 4"):
        Folder(root, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("range: 10000", "a range is"),
        ("range: [0, 0]", "lowest < highest"),
        ("range: [0, .nan]", "lowest < highest|range"),
        ("range: [[0, 1], [0, 1]]", "limits for 2 channels, the image has 4"),
        ("clip: true", "needs one: range"),
        ("clip: 1\nrange: [0, 1]", "true or false, got 1"),
        ("bands: [1, 2, 4]\nrange: [0, 10000]", r"0\.\.3 for images of 4 channels, got \[1, 2, 4\]"),
        ("bands: [-1]\nrange: [0, 10000]", r"one to three positions .* got \[-1\]"),
        ("bands: red\nrange: [0, 10000]", "list of positions"),
    ],
)
def test_bad_settings_are_named(tmp_path, text, message):
    root = folder(tmp_path, lambda path: write_tiff(path, values(4)), f"{text}\n")
    with pytest.raises(DataFault, match=message):
        Folder(root, "val")


def test_resizing_stays_inside_the_box(tmp_path):
    root = folder(tmp_path, lambda path: write_tiff(path, values(4)))
    for size in ((7, 5), (40, 31)):
        image = Folder(root, "val", size=size)[0]["image"]
        assert image.shape == (4, *size)
        assert image.min() >= 0
        assert image.max() <= 1
    constant = np.full((*SIZE, 2), 5000, dtype=np.uint16)
    write_tiff(root / "images" / "val" / "a.tif", constant)
    torch.testing.assert_close(Folder(root, "val", size=(7, 5))[0]["image"], torch.full((2, 7, 5), 0.5))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_transforms_take_any_number_of_channels(tmp_path, channels):
    root = folder(tmp_path, lambda path: write_tiff(path, values(channels)))
    for transform in (TrainTransform(size=(24, 20)), EvalTransform(shorter_side=9, crop=(12, 12))):
        image = Folder(root, "val", transform=transform)[0]["image"]
        assert image.dtype == torch.float32
        assert len(image) == channels
        assert 0 <= image.min() <= image.max() <= 1
    module = SegmentationDataModule(
        train=Folder(root, "val"), val=Folder(root, "val"), batch_size=1, num_workers=0, pad=True
    )
    assert next(iter(module.train_dataloader()))["image"].shape == (1, channels, *SIZE)


def test_range_is_a_part_of_the_fingerprint_and_bands_are_not(tmp_path):
    root = folder(tmp_path, lambda path: write_tiff(path, values(4)))
    prints = []
    for text in ("range: [0, 10000]", "range: [0, 10000]\nbands: [3, 2, 1]", "range: [0, 20000]"):
        (root / "classes.yaml").write_text(f"names: [water, quay]\n{text}\n")
        prints.append(Folder(root, "val").fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_wrappers_keep_range_and_bands(tmp_path):
    root = folder(tmp_path, lambda path: write_tiff(path, values(4)), "range: [0, 10000]\nbands: [3, 2, 1]\n")
    wrapped = VoidAsClass(Folder(root, "val"))
    assert (wrapped.value_range, wrapped.bands) == (ValueRange(((0, 10_000),)), (3, 2, 1))
    assert torch.equal(wrapped[0]["image"], image_of(root))


def test_cmyk_without_a_range_becomes_rgb_as_pillow_converts_it(tmp_path):
    picture = Image.fromarray(values(3, "uint8", 255)).convert("CMYK")
    root = folder(tmp_path, picture.save, "", "a.jpg")
    with Image.open(root / "images" / "val" / "a.jpg") as saved:
        assert torch.equal(image_of(root), expected(np.array(saved.convert("RGB")), 255))


def test_a_survey_says_what_the_files_hold(tmp_path):
    stored = values(4, high=4095)
    stored[..., 2] //= 2
    root = folder(tmp_path, lambda path: write_tiff(path, stored), "range: [0, 65535]\n")
    found = survey(Folder(root, "val"), split="val")
    assert found.stored == "4 channels of uint16, range 0..65535"
    assert [(round(low), round(high)) for low, high in found.extents] == [(0, 4095), (0, 4095), (0, 2047), (0, 4095)]
    (finding,) = (each for each in found.findings if each.kind == "range")
    assert finding.message.startswith("the values of the images that were read fill 6.2% of the range 0..65535")
    (root / "classes.yaml").write_text("names: [water, quay]\nrange: [0, 4095]\n")
    assert not [each for each in survey(Folder(root, "val"), split="val").findings if each.kind == "range"]


def test_a_survey_and_an_evaluation_warn_of_marks_of_missing_data(tmp_path):
    stored = values(4, high=4095)
    stored[:2] = 65535
    root = folder(tmp_path, lambda path: write_tiff(path, stored), "range: [0, 65535]\n")
    data = Folder(root, "val")
    (finding,) = (each for each in survey(data, split="val").findings if each.kind == "missing data")
    assert finding.message.startswith("the values 65535 lie far from all others of their channel in 1 images: a")
    assert "6.554e+04 lies far from all others" in describe_images(data, [0])
    (root / "classes.yaml").write_text("names: [water, quay]\nrange: [0, 4095]\nclip: true\n")
    data = Folder(root, "val")
    assert not [each for each in survey(data, split="val").findings if each.kind == "missing data"]
    assert "far from" not in describe_images(data, [0])


def test_the_command_prints_the_values_of_each_channel(tmp_path, capsys):
    root = folder(tmp_path, lambda path: write_tiff(path, values(13)))
    with pytest.raises(SystemExit) as ended:
        data_command(["check", "--data", "Folder", "--data.root", str(root), "--data.split", "val"])
    assert ended.value.code == 0
    seen = "; ".join(["0..10000"] * 13)
    assert f"values   13 channels of uint16, range 0..10000; seen {seen}" in capsys.readouterr().out


def test_pictures_of_samples_show_any_number_of_channels(tmp_path):
    for channels in (1, 2, 4, 13):
        root = folder(tmp_path / str(channels), lambda path, c=channels: write_tiff(path, values(c)))
        figure = draw_samples(Folder(root, "val"), [0])
        assert figure.axes[0].images[0].get_array().shape == (*SIZE, 3)
        assert "stretched" in figure.axes[0].get_title(loc="left")
