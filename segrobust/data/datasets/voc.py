"""PASCAL VOC 2012 segmentation: 20 object classes and background, alone or with the masks of SBD.

Sources: Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015; Hariharan et al.,
"Semantic Contours from Inverse Detectors", ICCV 2011 (SBD, archive `benchmark.tgz`).
"""

from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from segrobust.data.datasets.paired import PairedFiles
from segrobust.data.files.class_colors import voc_color
from segrobust.data.files.images import Size
from segrobust.data.files.listing import Pair, checked_pairs, chosen, list_files, match, read_names
from segrobust.data.files.masks import Values
from segrobust.data.files.matlab_masks import read_mask_of_structure
from segrobust.data.files.paths import find_root, require_folders
from segrobust.data.segmentation_dataset import JointTransform
from segrobust.label_space import LabelSpace

_NAME_LIST = """
background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
pottedplant sheep sofa train tvmonitor
"""
_NAMES: Final = tuple(_NAME_LIST.split())

PASCAL_VOC: Final = LabelSpace(names=_NAMES, palette=tuple(voc_color(index) for index in range(len(_NAMES))))

VOCSplit: TypeAlias = Literal["train", "val", "trainval", "train_aug"]

_LAYOUT = (
    "the archive VOCtrainval_11-May-2012.tar, unpacked: VOCdevkit/VOC2012 with JPEGImages, SegmentationClass and "
    "ImageSets/Segmentation"
)
_SBD_LAYOUT = "the archive benchmark.tgz of SBD, unpacked: benchmark_RELEASE/dataset with cls, train.txt and val.txt"


class PascalVOC(PairedFiles):
    """PASCAL VOC 2012; the border of objects, 255 in the masks, is void.

    `train_aug` is the training set of most papers, 10582 images: `train` and all images that SBD labels, without those
    of `val`. Images of `train` keep their own masks. SBD's masks are read from its MATLAB files where `sbd` is given,
    else from the PNGs that are passed around as `SegmentationClassAug`, beside `SegmentationClass`.

    Args:
        root: folder that holds `VOCdevkit`, or `VOCdevkit`, or `VOC2012` itself; the environment variable SEGROBUST_VOC
            when None.
        split: which images.
        size: `(H, W)` that every sample is resized to (bilinear with antialiasing; masks nearest); native sizes, which
            differ, when None.
        transform: applied to every sample that is read; nothing when None.
        sbd: folder that holds `benchmark_RELEASE`, or `benchmark_RELEASE` itself; for `train_aug` alone.

    Raises:
        ValueError: no root, another layout, another split, `sbd` with another split, a list that names files outside
            the data set, or files that are missing or do not fit together.
    """

    title = "PASCAL VOC 2012"

    def __init__(
        self,
        root: str | Path | None = None,
        split: VOCSplit = "train",
        size: Size | None = None,
        transform: JointTransform | None = None,
        sbd: str | Path | None = None,
    ) -> None:
        if split not in get_args(VOCSplit):
            raise ValueError(f"split must be one of {', '.join(get_args(VOCSplit))}, got {split!r}")
        if sbd is not None and split != "train_aug":
            raise ValueError(f"sbd=... adds masks to split='train_aug' and has no effect on {split!r}; leave it out")
        folder = _inside(
            find_root(root, "SEGROBUST_VOC", "PASCAL VOC 2012"), ("VOCdevkit/VOC2012", "VOC2012"), "JPEGImages"
        )
        require_folders(folder, ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"), _LAYOUT)
        pairs = _augmented(folder, sbd) if split == "train_aug" else _listed(folder, split)
        super().__init__(split=split, label_space=PASCAL_VOC, pairs=pairs, size=size, transform=transform)
        self._masks = "PNG" if sbd is None else "MATLAB"

    def read_labels(self, path: Path) -> Values:
        """Labels of a PNG, or of a MATLAB file of SBD."""
        if path.suffix == ".mat":
            return read_mask_of_structure(path, "GTcls", "Segmentation")
        return super().read_labels(path)

    def content(self) -> dict[str, object]:
        """Sizes, and where masks beyond those of VOC are from."""
        return {**super().content(), "split": self.split, "masks": self._masks}


def _inside(root: Path, below: tuple[str, ...], sign: str) -> Path:
    """The first of the root and folders below it that holds `sign`; the likeliest where none does."""
    candidates = [root, *(root / name for name in below)]
    return next((folder for folder in candidates if (folder / sign).exists()), candidates[0])


def _listed(folder: Path, split: str) -> tuple[Pair, ...]:
    """Images and masks that a list names, in its order."""
    names_file = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    names = read_names(names_file, root=folder)
    images = list_files(folder / "JPEGImages", frozenset({".jpg"}), "images", root=folder)
    masks = list_files(folder / "SegmentationClass", frozenset({".png"}), "masks", root=folder)
    images = chosen(images, names, "an image in JPEGImages", names_file)
    masks = chosen(masks, names, "a mask in SegmentationClass", names_file)
    return checked_pairs((name, images[name], masks[name]) for name in names if name in images and name in masks)


def _augmented(folder: Path, sbd: str | Path | None) -> tuple[Pair, ...]:
    """Images of VOC `train` and of SBD without those of VOC `val`."""
    lists = folder / "ImageSets" / "Segmentation"
    train = read_names(lists / "train.txt", root=folder)
    held_out = set(read_names(lists / "val.txt", root=folder))
    images = list_files(folder / "JPEGImages", frozenset({".jpg"}), "images", root=folder)
    own = list_files(folder / "SegmentationClass", frozenset({".png"}), "masks", root=folder)
    more = _png_masks(folder) if sbd is None else _mat_masks(Path(sbd))
    masks = {name: path for name, path in more.items() if name not in held_out}
    masks |= chosen(own, train, "a mask in SegmentationClass", lists / "train.txt")
    images = chosen(images, sorted(masks), "an image in JPEGImages", folder)
    return checked_pairs(match(images, masks, "", "in JPEGImages"))


def _png_masks(folder: Path) -> dict[str, Path]:
    require_folders(
        folder,
        ("SegmentationClassAug",),
        "SegmentationClassAug, the masks of SBD as PNGs, for split='train_aug'. Or pass sbd=..., " + _SBD_LAYOUT,
    )
    return list_files(folder / "SegmentationClassAug", frozenset({".png"}), "masks", root=folder)


def _mat_masks(sbd: Path) -> dict[str, Path]:
    root = _inside(sbd, ("benchmark_RELEASE",), "dataset")
    require_folders(root, ("dataset/cls",), _SBD_LAYOUT)
    masks = list_files(root / "dataset" / "cls", frozenset({".mat"}), "masks", root=root)
    names = [name for part in ("train", "val") for name in read_names(root / "dataset" / f"{part}.txt", root=root)]
    return chosen(masks, names, "a mask in cls", root / "dataset")
