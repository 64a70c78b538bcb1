"""What the rows of the first table of `docs/data.md` are about: small data sets, made by the name of a row.

To add a row: a line of the table that begins with `<!-- row: NAME -->`, and here a function `NAME` under `@row`, which
makes the data and returns `Files` or `Objects`. A row without a function fails, and a function without a row.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from test_grey_masks import write_png
from tiffs import write_tiff

from segrobust.label_space import LabelSpace

SIZE = (12, 16)
VOID = 255


@dataclass(frozen=True)
class Files:
    """A folder that a row describes by `classes.yaml`: what must be read from its first mask, and its first image."""

    labels: np.ndarray
    num_classes: int = 3
    split: str = "all"
    image: np.ndarray | None = None
    """`(H, W, C)` in [0, 1]; three channels if None."""


@dataclass(frozen=True)
class Objects:
    """Objects that the code of a row uses, by name, and what must hold of its value."""

    names: dict[str, Any]
    holds: Callable[[Any], bool] = field(default=lambda report: report.summary.num_images == 2)


ROWS: dict[str, Callable[[Path], Files | Objects]] = {}


def row(make: Callable[[Path], Files | Objects]) -> Callable[[Path], Files | Objects]:
    ROWS[make.__name__] = make
    return make


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def classes(number: int = 3, *, void: bool = False, seed: int = 0) -> np.ndarray:
    """Labels 0 to `number` - 1, with `void` also 255, as uint8."""
    labels = np.random.default_rng(seed).integers(0, number + void, SIZE)
    return np.where(labels == number, VOID, labels).astype(np.uint8)


def written(labels: np.ndarray, values: list[Any], void: Any = None) -> np.ndarray:
    """What stands in a mask for labels, one value or colour each."""
    table = np.array([*values, values[0] if void is None else void])
    kind = np.uint8 if table.max() <= 255 and table.min() >= 0 else np.uint16 if table.min() >= 0 else np.int64
    return table.astype(kind)[np.where(labels == VOID, len(values), labels)]


def usual(root: Path, values: np.ndarray, *, write: Callable[[Path, np.ndarray], None] = mask, suffix=".png") -> None:
    """Two images in `images/val` with the same mask in `masks/val`."""
    for name in "ab":
        image(root / "images/val" / f"{name}.png")
        (root / "masks/val").mkdir(parents=True, exist_ok=True)
        write(root / "masks/val" / f"{name}{suffix}", values)


def simple(root: Path, labels: np.ndarray, values: np.ndarray, **options: Any) -> Files:
    usual(root, values, **options)
    return Files(labels, split="val", num_classes=3 if labels[labels != VOID].max() > 1 else 2)


# --- what masks hold


@row
def indices(root):
    labels = classes(void=True)
    return simple(root, labels, labels)


@row
def zero_and_255(root):
    labels = classes(2)
    return simple(root, labels, labels * 255)


@row
def from_one(root):
    labels = classes()
    return simple(root, labels, labels + 1)


@row
def zero_is_void(root):
    labels = classes(void=True)
    return simple(root, labels, written(labels, [1, 2, 3], 0))


@row
def ids_with_gaps(root):
    labels = classes(void=True)
    values = written(labels, [7, 11, 26], 0)
    values[0, 0], labels[0, 0] = 255, VOID
    return simple(root, labels, values)


@row
def many_voids(root):
    labels = classes(void=True)
    values = written(labels, [1, 2, 3], 14)
    values[0, 0], labels[0, 0] = 0, VOID
    return simple(root, labels, values)


@row
def several_values(root):
    ids = np.random.default_rng(0).choice(np.array([0, 7, 8, 11, 12, 13], np.uint8), SIZE)
    return simple(root, np.select([ids == 0, ids <= 8], [0, 1], 2).astype(np.uint8), ids)


@row
def several_colours(root):
    labels = classes(4)
    values = written(labels, [[0, 0, 200], [90, 90, 90], [200, 0, 0], [99, 99, 99]])
    return simple(root, np.where(labels == 3, 1, labels), values)


@row
def last_is_void_of_the_network(root):
    labels = classes(void=True)
    usual(root, written(labels, [0, 1, 2], 3))
    return Files(labels, split="val", num_classes=4)


@row
def last_is_void(root):
    labels = classes(void=True)
    return simple(root, labels, written(labels, [0, 1, 2], 3))


@row
def colours(root):
    labels = classes()
    return simple(root, labels, written(labels, [[0, 0, 200], [90, 90, 90], [200, 0, 0]]))


@row
def colours_with_void(root):
    labels = classes(void=True)
    return simple(root, labels, written(labels, [[0, 0, 200], [90, 90, 90], [200, 0, 0]], [224, 224, 192]))


def palette_mask(path: Path, values: np.ndarray) -> None:
    picture = Image.fromarray(values)
    picture.putpalette([0, 0, 200, 90, 90, 90, 200, 0, 0] + [0] * 759)
    picture.save(path)


@row
def palette_indices(root):
    labels = classes(void=True)
    return simple(root, labels, labels, write=palette_mask)


@row
def palette_colours(root):
    labels = classes()
    return simple(root, labels, 2 - labels, write=palette_mask)


@row
def grey_colours(root):
    labels = classes()
    return simple(root, labels, np.stack([labels] * 3, -1))


# --- files of masks


@row
def one_bit(root):
    labels = classes(2)
    return simple(root, labels, labels.astype(bool))


@row
def four_bits(root):
    labels = classes()
    return simple(root, labels, labels, write=lambda path, values: write_png(path, values, 4, 0))


@row
def sixteen_bits(root):
    labels = classes(void=True)
    return simple(root, labels, written(labels, [7, 300, 4000], 65535))


@row
def tiff(root):
    labels = classes(void=True)
    return simple(root, labels, labels, suffix=".tif")


@row
def tiff_of_floats(root):
    labels = classes(void=True)
    return simple(root, labels, written(labels, [0, 1, 2], -9999).astype(np.float32), suffix=".tif")


@row
def arrays(root):
    labels = classes(void=True)
    return simple(root, labels, written(labels, [0, 1, 2], -1), suffix=".npy", write=np.save)


@row
def gif(root):
    labels = classes(2)
    return simple(root, labels, labels * 255, suffix=".gif")


# --- what images hold


def stored(channels: int, kind: str = "uint16", high: float = 10_000) -> np.ndarray:
    """Values of a sensor, `(H, W, channels)`, from 0 to `high`."""
    drawn = np.random.default_rng(channels).random((*SIZE, channels)) * high
    return (drawn if kind.startswith("float") else drawn.round()).astype(kind)


def sensor(root: Path, write: Callable[[Path], Any], suffix: str, expected: np.ndarray) -> Files:
    """Two images in `images/val`, which must be read as `expected`."""
    labels = classes()
    for name in "ab":
        path = root / "images/val" / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        mask(root / "masks/val" / f"{name}.png", labels)
    return Files(labels, split="val", image=expected)


@row
def pictures(root):
    picture = Image.fromarray(stored(3, "uint8", 255)).quantize(8)
    return sensor(root, picture.save, ".png", np.asarray(picture.convert("RGB")) / 255)


@row
def cmyk(root):
    picture = Image.new("CMYK", SIZE[::-1], (255, 0, 0, 51))
    return sensor(root, picture.save, ".jpg", np.broadcast_to([0, 0.8, 0.8], (*SIZE, 3)))


def with_alpha(opacity: int | None) -> np.ndarray:
    values = stored(4, "uint8", 255)
    values[..., 3] = values[..., 3] if opacity is None else opacity
    return values


@row
def opaque_alpha(root):
    values = with_alpha(255)
    return sensor(root, Image.fromarray(values).save, ".png", values[..., :3] / 255)


@row
def alpha_is_a_channel(root):
    values = with_alpha(None)
    return sensor(root, Image.fromarray(values).save, ".png", values / 255)


@row
def grey_images(root):
    values = stored(1, "uint8", 255)
    return sensor(root, Image.fromarray(values[..., 0]).save, ".png", values / 255)


@row
def images_of_bytes(root):
    values = stored(6, "uint8", 255)
    return sensor(root, lambda path: write_tiff(path, values), ".tif", values / 255)


@row
def images_of_a_sensor(root):
    values = stored(13)
    return sensor(root, lambda path: write_tiff(path, values, planar=True, order=">"), ".tif", values / 10_000)


@row
def channels_to_show(root):
    values = stored(4)
    return sensor(root, lambda path: write_tiff(path, values), ".tif", values / 10_000)


@row
def values_outside(root):
    values = stored(4, high=12_000)
    return sensor(root, lambda path: write_tiff(path, values), ".tif", values.clip(0, 10_000) / 10_000)


@row
def ranges_by_channel(root):
    values = stored(2, "float32", 1) * np.float32([10_000, 130]) + np.float32([0, 200])
    return sensor(root, lambda path: np.save(path, values), ".npy", (values - [0, 200]) / [10_000, 130])


@row
def images_of_16_bits(root):
    values = stored(3, high=65_535)
    return sensor(root, lambda path: cv2.imwrite(str(path), values[..., ::-1]), ".png", values / 65_535)


@row
def images_as_arrays(root):
    values = stored(5, "float32", 1)
    return sensor(root, lambda path: np.save(path, values.transpose(2, 0, 1)), ".npy", values)


# --- places and names of files


def placed(root: Path, pattern_of_image: str, pattern_of_mask: str, split: str = "all") -> Files:
    """Images and masks at places with `{n}` for the name and `{s}` for the split."""
    for part in ("train", "val") if "{s}" in pattern_of_image else ("",):
        for name in ("001", "002", "010"):
            image(root / pattern_of_image.format(n=name, s=part))
            mask(root / pattern_of_mask.format(n=name, s=part), classes())
    return Files(classes(), split=split)


@row
def mask_ending(root):
    return placed(root, "images/{s}/{n}.jpg", "masks/{s}/{n}_mask.png", "val")


@row
def both_endings(root):
    return placed(root, "leftImg8bit/{s}/{n}_leftImg8bit.png", "gtFine/{s}/{n}_gtFine_labelIds.png", "val")


@row
def other_folders(root):
    return placed(root, "img/{n}.jpg", "label/{n}.png")


@row
def split_first(root):
    return placed(root, "{s}/images/{n}.jpg", "{s}/masks/{n}.png", "val")


@row
def split_in_names(root):
    return placed(root, "{s}/{n}.png", "{s}annot/{n}.png", "val")


@row
def side_by_side(root):
    return placed(root, "{n}.jpg", "{n}_mask.png")


@row
def beginnings(root):
    return placed(root, "img_{n}.png", "mask_{n}.png")


@row
def folders_of_scenes(root):
    return placed(root, "leftImg8bit/{s}/aachen/{n}.png", "gtFine/{s}/aachen/{n}.png", "val")


@row
def lists(root):
    placed(root, "JPEGImages/{n}.jpg", "SegmentationClass/{n}.png")
    folder = root / "ImageSets/Segmentation"
    folder.mkdir(parents=True)
    (folder / "val.txt").write_text("002\n001\n")
    return Files(classes(), split="val")


@row
def accents(root):
    image(root / "images/val" / unicodedata.normalize("NFD", "größe é.png"))
    mask(root / "masks/val" / unicodedata.normalize("NFC", "größe é.png"), classes())
    return Files(classes(), split="val")


@row
def unknown(root):
    placed(root, "x/{n}.jpg", "y/{n}_seg.png")
    return Files(classes())


# --- data that are no files


def pairs(number: int, void: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    labels = torch.from_numpy(classes(number, void=True).astype(np.int64))
    labels[labels == VOID] = void
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(3, *SIZE, generator=generator), labels) for _ in range(2)]


class Named(list):
    """A data set of its own that knows its classes."""

    label_space = LabelSpace(names=("water", "quay", "void"), palette=((0, 0, 200), (90, 90, 90), (0, 0, 0)))


def network(num_classes: int, channels: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv2d(channels, num_classes, 1)


@row
def tensors(root):
    return Objects({"network": network(3), "dataset": pairs(3, 255)})


@row
def tensors_with_a_void_class(root):
    return Objects(
        {"network": network(3), "dataset": pairs(2, 2)},
        lambda report: report.summary.num_images == 2 and report.summary.clean.iou[2] != report.summary.clean.iou[2],
    )


@row
def own_class_with_a_void_class(root):
    return Objects({"network": network(3), "dataset": Named(pairs(2, 2))})
