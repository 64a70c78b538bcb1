"""ADE20K as the scene parsing benchmark of 2016 gives it: 150 classes of everyday scenes.

Source: Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017; the archive `ADEChallengeData2016.zip`. Names
are the first ones of its `objectInfo150.txt`, colours those of the benchmark's development kit.
"""

from pathlib import Path
from typing import Final, Literal

from segrobust.data.datasets.class_tables import label_space, read_classes
from segrobust.data.datasets.paired import PairedFiles
from segrobust.data.files.images import Size
from segrobust.data.files.listing import pair_files
from segrobust.data.files.masks import Values
from segrobust.data.files.paths import find_root, require_folders
from segrobust.data.files.value_table import ValueTable
from segrobust.data.segmentation_dataset import JointTransform, Labels

ADE20K_150: Final = label_space(read_classes("ade20k"))

_FOLDERS: Final = {"train": "training", "val": "validation"}
_LAYOUT = (
    "the archive ADEChallengeData2016.zip, unpacked: ADEChallengeData2016/images and ADEChallengeData2016/annotations, "
    "each with training and validation. The full data set of 3688 objects (ADE20K_2021_17_01) has other files"
)
_TABLE: Final = ValueTable(
    {0: ADE20K_150.ignore_index} | {label + 1: label for label in range(ADE20K_150.num_classes)},
    "0 (void) and 1..150. Masks whose labels begin at 0 with 255 for void have been reduced before; the original ones "
    "are needed",
)


class ADE20K(PairedFiles):
    """ADE20K with 150 classes; 0 in the masks, pixels of no class, becomes void and k becomes class k - 1.

    Args:
        root: folder that holds `ADEChallengeData2016`, or that folder itself; the environment variable SEGROBUST_ADE20K
            when None.
        split: which images: 20210 to train on, 2000 to validate.
        size: `(H, W)` that every sample is resized to (bilinear with antialiasing; masks nearest); native sizes, which
            differ, when None.
        transform: applied to every sample that is read; nothing when None.

    Raises:
        ValueError: no root, another layout, another split, or files that are missing or do not fit together.
    """

    title = "ADE20K"

    def __init__(
        self,
        root: str | Path | None = None,
        split: Literal["train", "val"] = "train",
        size: Size | None = None,
        transform: JointTransform | None = None,
    ) -> None:
        if split not in _FOLDERS:
            raise ValueError(f"split must be 'train' or 'val', got {split!r}")
        outer = find_root(root, "SEGROBUST_ADE20K", "ADE20K")
        inner = outer / "ADEChallengeData2016"
        folder = inner if inner.is_dir() else outer
        images, masks = f"images/{_FOLDERS[split]}", f"annotations/{_FOLDERS[split]}"
        require_folders(folder, (images, masks), _LAYOUT)
        pairs = pair_files(folder / images, folder / masks, root=folder)
        super().__init__(split=split, label_space=ADE20K_150, pairs=pairs, size=size, transform=transform)

    def map_labels(self, raw: Values) -> Labels:
        """0 to void, k to k - 1.

        Raises:
            DataFault: a value above 150.
        """
        return _TABLE.map(raw)
