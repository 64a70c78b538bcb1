"""Published data sets on disk, in their exact layouts and tiny; each function returns the labels of its masks."""

from pathlib import Path

import numpy as np
import scipy.io
import yaml
from PIL import Image

from segrobust.data import CAMVID32, PASCAL_VOC

VOID = 255


def write_jpeg(path, size, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def write_png(path, pixels, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette([channel for color in palette for channel in color])
    image.save(path)


def random_labels(size, values, seed):
    """Labels of all given values, in no order."""
    labels = np.random.default_rng(seed).choice(np.array(values, dtype=np.uint8), size)
    labels.flat[: len(values)] = values
    return labels


def voc_palette():
    """256 colours: those of the classes, and the cream of the border at 255."""
    colors = list(PASCAL_VOC.palette) + [(7, 7, index) for index in range(len(PASCAL_VOC.palette), 255)]
    return [*colors, (224, 224, 192)]


def voc_tree(root: Path) -> dict[str, np.ndarray]:
    """`VOCdevkit/VOC2012`: 3 training and 2 validation images of odd sizes, and one image of no list."""
    folder = root / "VOCdevkit" / "VOC2012"
    sizes = {"2007_000032": (9, 13), "2007_000039": (11, 7), "2008_000002": (12, 12), "2007_000033": (10, 15)}
    sizes |= {"2009_000042": (15, 10)}
    labels = {}
    for seed, (name, size) in enumerate(sizes.items()):
        write_jpeg(folder / "JPEGImages" / f"{name}.jpg", size, seed)
        labels[name] = random_labels(size, (0, 1, 15, 20, VOID), seed)
        write_png(folder / "SegmentationClass" / f"{name}.png", labels[name], voc_palette())
    write_jpeg(folder / "JPEGImages" / "2011_000999.jpg", (8, 8))
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    names = list(sizes)
    for split, chosen in {"train": names[:3], "val": names[3:], "trainval": sorted(names)}.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in chosen))
    return labels


def write_mat(path, labels):
    """As in SBD: a structure GTcls with the masks of boundaries and the segmentation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"Boundaries": np.zeros((20, 1), object), "Segmentation": labels, "CategoriesPresent": np.unique(labels)}
    scipy.io.savemat(path, {"GTcls": entry}, do_compression=True)


def sbd_tree(root: Path, voc: Path) -> dict[str, np.ndarray]:
    """`benchmark_RELEASE` for images of a VOC tree: one of its train, one of its val, two of no list."""
    sizes = {"2007_000032": (9, 13), "2007_000033": (10, 15), "2011_000999": (8, 8), "2011_000123": (6, 14)}
    write_jpeg(voc / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2011_000123.jpg", sizes["2011_000123"])
    labels = {}
    for seed, (name, size) in enumerate(sizes.items(), start=50):
        labels[name] = random_labels(size, (0, 2, 7), seed)
        write_mat(root / "benchmark_RELEASE" / "dataset" / "cls" / f"{name}.mat", labels[name])
    dataset = root / "benchmark_RELEASE" / "dataset"
    (dataset / "train.txt").write_text("2007_000033\n2011_000999\n")
    (dataset / "val.txt").write_text("2007_000032\n2011_000123\n")
    return labels


def cityscapes_tree(root: Path, ending: str = "labelIds", size=(8, 16)) -> dict[str, np.ndarray]:
    """`leftImg8bit` and `gtFine` with two cities a split; the raw ids, which differ by the ending."""
    values = (*range(34), VOID) if ending == "labelIds" else (*range(19), VOID)
    raw = {}
    cities = {"train": ("aachen", "ulm"), "val": ("frankfurt", "munster")}
    for split, names in cities.items():
        for seed, city in enumerate(names):
            name = f"{city}_{seed:06d}_000019"
            pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
            write_png(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", pixels)
            raw[name] = random_labels(size, values, seed)
            folder = root / "gtFine" / split / city
            write_png(folder / f"{name}_gtFine_{ending}.png", raw[name])
            write_png(folder / f"{name}_gtFine_color.png", pixels)
            Image.fromarray(raw[name].astype(np.uint16)).save(folder / f"{name}_gtFine_instanceIds.png")
            (folder / f"{name}_gtFine_polygons.json").write_text("{}")
    return raw


def ade_tree(root: Path) -> dict[str, np.ndarray]:
    """`ADEChallengeData2016` with two images a split; the raw labels 0..150."""
    folder = root / "ADEChallengeData2016"
    raw = {}
    for split, part in (("train", "training"), ("val", "validation")):
        for seed, size in enumerate(((13, 17), (15, 14))):
            name = f"ADE_{split}_{seed + 1:08d}"
            write_jpeg(folder / "images" / part / f"{name}.jpg", size, seed)
            raw[name] = random_labels(size, (*range(151),), seed)
            write_png(folder / "annotations" / part / f"{name}.png", raw[name])
    (folder / "objectInfo150.txt").write_text("Idx\n")
    return raw


CAMVID_FRAMES = {
    "train": ("0001TP_008520", "0006R0_f00930", "0016E5_08190"),
    "val": ("0016E5_07959", "0016E5_08159"),
    "test": ("0001TP_008550", "Seq05VD_f00000"),
}


def camvid32_tree(root: Path, size=(10, 14)) -> dict[str, np.ndarray]:
    """`701_StillsRaw_full` and `LabeledApproved_full` in colours; the labels of 31 classes and void."""
    labels = {}
    for seed, name in enumerate(name for names in CAMVID_FRAMES.values() for name in names):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        write_png(root / "701_StillsRaw_full" / f"{name}.png", pixels)
        labels[name] = random_labels(size, (*range(31), VOID), seed)
        colors = np.zeros((256, 3), dtype=np.uint8)
        colors[:31] = CAMVID32.palette
        write_png(root / "LabeledApproved_full" / f"{name}_L.png", colors[labels[name]])
    return labels


def write_own_folder(root, num_classes):
    """Images and masks in the layout of `Folder`: three pictures in `train` and in `val`, some void."""
    generator = np.random.default_rng(0)
    root.mkdir()
    (root / "classes.yaml").write_text(yaml.safe_dump({"names": [f"class {i}" for i in range(num_classes)]}))
    for split in ("train", "val"):
        for index, name in enumerate("abc"):
            labels = generator.integers(0, num_classes, (48, 64), dtype=np.uint8)
            labels[:4] = VOID
            write_png(root / "masks" / split / f"{name}.png", labels)
            write_jpeg(root / "images" / split / f"{name}.jpg", (48, 64), seed=index + 3 * (split == "train"))
