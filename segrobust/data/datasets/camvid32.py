"""CamVid as it was published: 701 frames of 720x960, labelled in 32 colours.

Sources: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009 (the data, `label_colors.txt`);
Badrinarayanan, Kendall, Cipolla, "SegNet", 2017 (the split and the 11 classes).
"""

import re
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeAlias, get_args

from segrobust.data.datasets.camvid import CAMVID
from segrobust.data.datasets.class_tables import label_space, read_classes
from segrobust.data.datasets.paired import PairedFiles
from segrobust.data.files.images import Size
from segrobust.data.files.listing import checked_pairs, list_files, match
from segrobust.data.files.masks import COLOR_MODES, read_colors
from segrobust.data.files.paths import find_root, require_folders
from segrobust.data.files.value_table import ValueTable, pack
from segrobust.data.segmentation_dataset import JointTransform, Labels

CamVid32Split: TypeAlias = Literal["train", "val", "test", "all"]

_CLASSES: Final = read_classes("camvid32")
"""The 31 classes that are not void, and which of the 11 classes of SegNet each belongs to."""

CAMVID32: Final = label_space(_CLASSES)

_VOID: Final = {pack((0, 0, 0)): CAMVID32.ignore_index}
_MEANING = (
    "the 32 colours of CamVid's `label_colors.txt`. A mask in colours is kept without loss (PNG, not JPEG) and resized "
    "to the nearest pixel"
)
_FINE: Final = ValueTable(
    _VOID | {pack(color): label for label, color in enumerate(CAMVID32.palette)}, _MEANING, are_colors=True
)
_SEGNET: Final = [CAMVID.names.index(row["segnet_class"]) for row in _CLASSES]
_COARSE: Final = ValueTable(
    _VOID | dict(zip(map(pack, CAMVID32.palette), _SEGNET, strict=True)), _MEANING, are_colors=True
)
_LAYOUT = (
    "the archives 701_StillsRaw_full.zip and LabeledApproved_full.zip, unpacked: 701_StillsRaw_full with frames, "
    "LabeledApproved_full with masks in colours of the same names and _L. Index masks of 11 classes are read by CamVid"
)


class CamVid32(PairedFiles):
    """CamVid with the masks in colours of its authors: 31 classes, and void, which is the 32nd colour.

    The split is SegNet's: 367 frames to train on, 101 to validate, 233 to test.

    Args:
        root: folder that holds `701_StillsRaw_full` and `LabeledApproved_full`; the environment variable
            SEGROBUST_CAMVID32 when None.
        split: which frames.
        size: `(H, W)` that every frame is resized to (bilinear with antialiasing; masks nearest), 720x960 when None.
        transform: applied to every sample that is read; nothing when None.
        reduced: whether classes are merged to the 11 of `CamVid`, so that networks for these can be evaluated.

    Raises:
        ValueError: no root, another layout, another split, or files that are missing or do not fit together.
    """

    title = "CamVid"
    names_begin_with_sequence: ClassVar[bool] = True

    def __init__(
        self,
        root: str | Path | None = None,
        split: CamVid32Split = "train",
        size: Size | None = None,
        transform: JointTransform | None = None,
        reduced: bool = False,
    ) -> None:
        if split not in get_args(CamVid32Split):
            raise ValueError(f"split must be one of {', '.join(get_args(CamVid32Split))}, got {split!r}")
        folder = find_root(root, "SEGROBUST_CAMVID32", "CamVid with 32 classes")
        frames, masks = folder / "701_StillsRaw_full", folder / "LabeledApproved_full"
        require_folders(folder, (frames.name, masks.name), _LAYOUT)
        files = match(
            list_files(frames, frozenset({".png"}), "frames", root=folder),
            list_files(masks, frozenset({".png"}), "masks", root=folder, ending="_L"),
            f"*_L.png in {masks}",
            f"in {frames}",
        )
        wanted = (file for file in files if split in ("all", split_of(file[0])))
        space, pairs = CAMVID if reduced else CAMVID32, checked_pairs(wanted, modes=COLOR_MODES)
        super().__init__(split=split, label_space=space, pairs=pairs, size=size, transform=transform)
        self.reduced = reduced

    def read_labels(self, path: Path) -> Labels:
        """Labels of a mask in colours, void as 255."""
        return (_COARSE if self.reduced else _FINE).map(read_colors(path))


def split_of(name: str) -> Literal["train", "val", "test"]:
    """The part of SegNet's split that a frame such as `0016E5_07959` belongs to.

    The test frames are the video Seq05VD and the second half of 0001TP; the validation frames, labelled at 15 Hz, lie
    within 0016E5.
    """
    video, _, rest = name.partition("_")
    digits = re.search(r"\d+", rest)
    frame = int(digits[0]) if digits else -1
    if video == "Seq05VD" or (video == "0001TP" and frame > 8520):
        return "test"
    if video == "0016E5" and 7959 <= frame <= 8159:
        return "val"
    return "train"
