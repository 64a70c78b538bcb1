"""CamVid as it was published: 701 frames of 720x960, labelled in 32 colours.

Sources: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009 (the data, `label_colors.txt`);
Badrinarayanan, Kendall, Cipolla, "SegNet", 2017 (the split and the 11 classes).
"""

import re
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeAlias, get_args

from segrobust.data.datasets.camvid import CAMVID
from segrobust.data.datasets.paired import PairedFiles
from segrobust.data.files.color_masks import ColorTable
from segrobust.data.files.images import COLOR_MODES, Size
from segrobust.data.files.listing import checked_pairs, list_files, match
from segrobust.data.files.paths import find_root, require_folders
from segrobust.data.segmentation_dataset import JointTransform, Labels
from segrobust.label_space import Color, LabelSpace

CamVid32Split: TypeAlias = Literal["train", "val", "test", "all"]

_CLASSES: Final[tuple[tuple[str, Color, str], ...]] = (
    ("Animal", (64, 128, 64), "pedestrian"),
    ("Archway", (192, 0, 128), "building"),
    ("Bicyclist", (0, 128, 192), "bicyclist"),
    ("Bridge", (0, 128, 64), "building"),
    ("Building", (128, 0, 0), "building"),
    ("Car", (64, 0, 128), "car"),
    ("CartLuggagePram", (64, 0, 192), "pedestrian"),
    ("Child", (192, 128, 64), "pedestrian"),
    ("Column_Pole", (192, 192, 128), "pole"),
    ("Fence", (64, 64, 128), "fence"),
    ("LaneMkgsDriv", (128, 0, 192), "road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "road"),
    ("Misc_Text", (128, 128, 64), "sign_symbol"),
    ("MotorcycleScooter", (192, 0, 192), "bicyclist"),
    ("OtherMoving", (128, 64, 64), "car"),
    ("ParkingBlock", (64, 192, 128), "pavement"),
    ("Pedestrian", (64, 64, 0), "pedestrian"),
    ("Road", (128, 64, 128), "road"),
    ("RoadShoulder", (128, 128, 192), "pavement"),
    ("Sidewalk", (0, 0, 192), "pavement"),
    ("SignSymbol", (192, 128, 128), "sign_symbol"),
    ("Sky", (128, 128, 128), "sky"),
    ("SUVPickupTruck", (64, 128, 192), "car"),
    ("TrafficCone", (0, 0, 64), "pole"),
    ("TrafficLight", (0, 64, 64), "sign_symbol"),
    ("Train", (192, 64, 128), "car"),
    ("Tree", (128, 128, 0), "tree"),
    ("Truck_Bus", (192, 128, 192), "car"),
    ("Tunnel", (64, 0, 64), "building"),
    ("VegetationMisc", (192, 192, 0), "tree"),
    ("Wall", (64, 192, 0), "building"),
)
"""Name and colour of the 31 classes that are not void, and which of the 11 classes of SegNet each belongs to."""

CAMVID32: Final = LabelSpace(
    names=tuple(name for name, _, _ in _CLASSES), palette=tuple(color for _, color, _ in _CLASSES)
)

_VOID: Final = {(0, 0, 0): CAMVID32.ignore_index}
_FINE: Final = ColorTable(_VOID | {color: label for label, (_, color, _) in enumerate(_CLASSES)})
_COARSE: Final = ColorTable(_VOID | {color: CAMVID.names.index(name) for _, color, name in _CLASSES})
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
        wanted = [file for file in files if split in ("all", split_of(file[0]))]
        super().__init__(
            split=split,
            label_space=CAMVID if reduced else CAMVID32,
            pairs=checked_pairs(wanted, modes=COLOR_MODES),
            size=size,
            transform=transform,
        )
        self.reduced = reduced

    def read_labels(self, path: Path) -> Labels:
        """Labels of a mask in colours, void as 255."""
        return (_COARSE if self.reduced else _FINE).read(path)


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
