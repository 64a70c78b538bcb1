"""CamVid in the layout of SegNet: 11 classes, driving videos of Cambridge.

Sources: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009 (the data); Badrinarayanan, Kendall,
Cipolla, "SegNet", 2017 (the 11 classes and the folders `train`, `trainannot`, `val`, `valannot`).
"""

from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np

from segrobust.data.datasets.class_tables import label_space, read_classes
from segrobust.data.datasets.paired import PairedFiles
from segrobust.data.files.images import Size
from segrobust.data.files.listing import pair_files
from segrobust.data.files.masks import Values
from segrobust.data.files.paths import find_root, require_folders
from segrobust.data.segmentation_dataset import JointTransform

CAMVID: Final = label_space(read_classes("camvid"))

_LAYOUT = (
    "CamVid in the layout of SegNet: train, trainannot, val and valannot, images beside index masks of the same "
    "names. The original 32 classes in colours are read by CamVid32"
)
_RAW_VOID = 11


class CamVid(PairedFiles):
    """CamVid frames with masks of 11 classes; void, 11 in the files, becomes 255.

    Args:
        root: folder that holds `train`, `trainannot`, `val` and `valannot`; the environment variable SEGROBUST_CAMVID
            when None.
        split: which of the two.
        size: `(H, W)` that every frame is resized to (bilinear with antialiasing; masks nearest), 360x480 when None.
        transform: applied to every sample that is read; nothing when None.

    Raises:
        ValueError: no root, another layout, or a pair of files that does not fit together.
    """

    title = "CamVid"
    names_begin_with_sequence: ClassVar[bool] = True

    def __init__(
        self,
        root: str | Path | None = None,
        split: Literal["train", "val"] = "train",
        size: Size | None = None,
        transform: JointTransform | None = None,
    ) -> None:
        if split not in ("train", "val"):
            raise ValueError(f"split must be 'train' or 'val', got {split!r}")
        folder = find_root(root, "SEGROBUST_CAMVID", "CamVid")
        require_folders(folder, ("train", "trainannot", "val", "valannot"), _LAYOUT)
        pairs = pair_files(folder / split, folder / f"{split}annot", root=folder)
        super().__init__(split=split, label_space=CAMVID, pairs=pairs, size=size, transform=transform)

    def map_labels(self, raw: Values) -> Values:
        """Void from 11 to 255; other values unchanged."""
        return np.where(raw == _RAW_VOID, np.uint8(CAMVID.ignore_index), raw)
