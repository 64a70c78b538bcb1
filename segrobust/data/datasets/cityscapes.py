"""Cityscapes with fine annotations: 19 classes, street scenes of 50 cities at 1024x2048.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016; ids and colours from
`cityscapesscripts/helpers/labels.py`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, Literal

from segrobust.data.datasets.class_tables import label_space, read_classes
from segrobust.data.datasets.paired import PairedFiles
from segrobust.data.files.faults import found
from segrobust.data.files.images import Size
from segrobust.data.files.listing import checked_pairs, list_files, match
from segrobust.data.files.masks import Values
from segrobust.data.files.paths import check_links, check_name, find_root, require_folders
from segrobust.data.files.value_table import ValueTable
from segrobust.data.segmentation_dataset import JointTransform, Labels
from segrobust.untrusted.data_fault import DataFault

_CLASSES: Final = read_classes("cityscapes")
"""The classes that are evaluated, in the order of the train ids."""

CITYSCAPES: Final = label_space(_CLASSES)

_VOID = CITYSCAPES.ignore_index
_ENDINGS: Final = ("_gtFine_labelIds", "_gtFine_labelTrainIds")
_TABLES: Final = {
    "_gtFine_labelIds": ValueTable(
        {255: _VOID}  # the id -1, as a byte
        | dict.fromkeys(range(34), _VOID)
        | {int(row["id"]): label for label, row in enumerate(_CLASSES)},
        "the ids 0..33 and -1 of Cityscapes (labelIds)",
    ),
    "_gtFine_labelTrainIds": ValueTable(
        {255: _VOID} | {label: label for label in range(CITYSCAPES.num_classes)},
        "the train ids 0..18 and 255 of Cityscapes (labelTrainIds)",
    ),
}
_LAYOUT = (
    "the archives leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, unpacked into one folder: "
    "leftImg8bit/<split>/<city> and gtFine/<split>/<city>. They are downloaded with an account of "
    "cityscapes-dataset.com"
)


class Cityscapes(PairedFiles):
    """Cityscapes; ids that are not evaluated become void.

    Masks are the `*_gtFine_labelIds.png` of the archive, else `*_gtFine_labelTrainIds.png`.

    Args:
        root: folder that holds `leftImg8bit` and `gtFine`; the environment variable SEGROBUST_CITYSCAPES when None.
        split: which images; those of `test` have no public masks.
        size: `(H, W)` that every sample is resized to (bilinear with antialiasing; masks nearest), 1024x2048 when None.
        transform: applied to every sample that is read; nothing when None.

    Raises:
        ValueError: no root, another layout, another split, or files that are missing or do not fit together.
    """

    title = "Cityscapes"
    names_begin_with_sequence: ClassVar[bool] = True

    def __init__(
        self,
        root: str | Path | None = None,
        split: Literal["train", "val"] = "train",
        size: Size | None = None,
        transform: JointTransform | None = None,
    ) -> None:
        if split not in ("train", "val"):
            raise ValueError(f"split must be 'train' or 'val' (the masks of 'test' are not public), got {split!r}")
        folder = find_root(root, "SEGROBUST_CITYSCAPES", "Cityscapes")
        require_folders(folder, (f"leftImg8bit/{split}", f"gtFine/{split}"), _LAYOUT)
        images = _of_all_cities(folder, f"leftImg8bit/{split}", "_leftImg8bit", "images")
        ending, masks = _masks(folder, split)
        pairs = checked_pairs(match(images, masks, f"*{ending}.png in gtFine/{split}", f"in leftImg8bit/{split}"))
        self._table = _TABLES[ending]
        super().__init__(split=split, label_space=CITYSCAPES, pairs=pairs, size=size, transform=transform)

    def map_labels(self, raw: Values) -> Labels:
        """From ids or train ids to classes, void as 255.

        Raises:
            DataFault: a value that Cityscapes does not have.
        """
        return self._table.map(raw)


def _masks(root: Path, split: str) -> tuple[str, Mapping[str, Path]]:
    """The ending of the masks that are there, and the masks by sample name."""
    for ending in _ENDINGS:
        masks = _of_all_cities(root, f"gtFine/{split}", ending, "masks")
        if masks:
            return ending, masks
    raise DataFault(
        f"no masks in {root / 'gtFine' / split}; looked for */*_gtFine_labelIds.png. Expected: {_LAYOUT}", kind="layout"
    )


def _of_all_cities(root: Path, below: str, ending: str, what: str) -> dict[str, Path]:
    """Files by sample name; cities without such a file are reported by the pairing."""
    files: dict[str, Path] = {}
    for entry in sorted(os.scandir(root / below), key=lambda entry: entry.name):
        city = root / below / entry.name
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        try:
            check_name(entry.name, below)
            check_links(city, root)
            files |= list_files(city, frozenset({".png"}), what, root=root, ending=ending)
        except DataFault as fault:
            if fault.kind != "layout":
                found(fault)
    return files
