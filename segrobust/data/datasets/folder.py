"""Anyone's images and masks, described by a file beside them."""

import warnings
from pathlib import Path
from typing import Final

from segrobust.data.datasets.folder_file import FILE_NAME, FolderFile, read_folder_file
from segrobust.data.datasets.paired import PairedFiles
from segrobust.data.files.doubts import doubts
from segrobust.data.files.images import Size
from segrobust.data.files.listing import Pair, checked_pairs, chosen, match, read_names
from segrobust.data.files.masks import how_stored, is_colored, read_colors, read_values
from segrobust.data.files.paths import check_links, check_name
from segrobust.data.files.patterns import NESTED, SPLIT
from segrobust.data.segmentation_dataset import JointTransform, Labels
from segrobust.untrusted.data_fault import DataFault

ALL = "all"
"""The split of folders that have none."""

_HINT: Final = (
    "An image and its mask share their name; how names of masks end otherwise is `ending: _mask.png` in classes.yaml, "
    "which `segrobust data init` finds"
)


class Folder(PairedFiles):
    """Images in `images/<split>`, masks of the same names in `masks/<split>`, classes in `classes.yaml`.

    `classes.yaml` holds `names`, a list in the order of the class indices. Other keys describe other images and masks,
    and other places, and `segrobust data init` proposes them from what is there:

    - `range`: of the values of images, `[lowest, highest]` of all channels or a list with one such pair for each; it
      becomes [0, 1]. `clip: true` moves values outside to its limits. `bands`: channels that pictures show, from 0.
    - `values`: what masks hold for each class: integers, `1..K`, or colours, [r, g, b] or "#rrggbb"; without it the
      class indices 0..K-1. `ignore`: what is void, one value or several; without `values` and `ignore`, 255.
    - `ending`: how names of masks end if not as those of images: `_mask.png`.
    - `images`, `masks`: folders, with `{split}` where they are by split, and one `*` in names of files. `**` stands for
      folders at any depth, such as those of scenes, whose path is a part of the names and the recording of an image.
      Where neither has `{split}`, the split is "all", or `list` is a list of names by split.
    - `palette`: colours of the classes in pictures. Without `values` and `ignore`, RGB masks have these colours.
    - `ignore_index`, where void is not 255, and `void_color`, where it is not black in the colours of the palette;
      both without `values` and `ignore`.

    Without `range`, images are pictures of 8 bits per channel, which become RGB. With it they may have any number of
    channels of any type, in TIFF, `.npy` or PNG, and all are read as they are stored. Masks are PNG, TIFF, BMP or GIF
    of one channel of 1 to 32 bits or of RGB colours, or `.npy` arrays. A palette picture is read by its indices if
    `values` are integers, else by its colours.

    Args:
        root: folder that holds `images`, `masks` and `classes.yaml`.
        split: name of the split; "all" for a folder without splits.
        size: `(H, W)` that every sample is resized to (bilinear with antialiasing; masks nearest); native sizes when
            None, which takes batches of one where they differ.
        transform: applied to every sample that is read; nothing when None.

    Warns:
        DataDoubt: some images ask viewers to turn them, or an index has several colours in the palettes of masks that
            are read by their indices.

    Raises:
        ValueError: a folder or file is missing, files have no partner, a pair does not fit together, or the file of
            classes is not of that form.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = ALL,
        size: Size | None = None,
        transform: JointTransform | None = None,
    ) -> None:
        folder = Path(root)
        if not split or Path(split).name != split or split == "..":
            raise ValueError(f"split is the name of a folder below {folder / 'images'}, got {split!r}")
        check_name(split, "split")
        check_links(folder / FILE_NAME, folder)
        self._file = read_folder_file(folder / FILE_NAME)
        if not self._file.has_splits and split != ALL:
            raise ValueError(
                f"{folder / FILE_NAME} has no {SPLIT} in images, so every split would be the same images: "
                f"split is {ALL!r}, got {split!r}"
            )
        self.title = folder.resolve().name
        super().__init__(
            split=split,
            label_space=self._file.label_space,
            pairs=_pairs(folder, split, self._file),
            size=size,
            transform=transform,
            settings=self._file.image_settings,
        )
        images, masks = ([getattr(pair, what) for pair in self.pairs] for what in ("image", "mask"))
        for doubt in doubts(images, masks, by_index=self._file.integers is not None):
            warnings.warn(doubt, stacklevel=2)

    def read_labels(self, path: Path) -> Labels:
        """Labels of a mask file, by its integers or its colours."""
        integers, colors = self._file.integers, self._file.colors
        if colors is not None and (integers is None or is_colored(path)):
            return colors.map(read_colors(path))
        assert integers is not None
        values = read_values(path)
        try:
            return integers.map(values)
        except DataFault as fault:
            raise DataFault(f"{fault}. {how_stored(path)}".removesuffix(". "), kind=fault.kind) from fault

    def describe(self) -> str:
        """Data set, split, number of images and classes, and how masks are read if `classes.yaml` says so."""
        return super().describe() + (f" ({self._file.reading})" if self._file.reading else "")

    @property
    def sequences(self) -> tuple[str, ...]:
        """Per image the folder that it is in where there are several (`**`), else its own name."""
        return tuple(name.rpartition("/")[0] or name for name in self.names)

    def content(self) -> dict[str, object]:
        """Sizes, and how masks are read if `classes.yaml` says so."""
        return super().content() | self._file.rules


def _pairs(root: Path, split: str, file: FolderFile) -> tuple[Pair, ...]:
    """Images and masks of a split; where both lie in one folder, what is a mask is no image."""
    places = [pattern.place(root, split) for pattern in (file.images, file.masks)]
    splits = file.images.splits(root)
    if splits and not places[0].is_dir():
        raise DataFault(
            f"the folder of images is missing: {places[0]}; the splits there are {', '.join(splits[:8])}", kind="layout"
        )
    images, masks = file.images.files(root, split, "images"), file.masks.files(root, split, "masks")
    images = {name: path for name, path in images.items() if path not in {*masks.values()}}
    if file.list is not None:
        listed = root / file.list.replace(SPLIT, split)
        names = read_names(listed, root=root, nested=NESTED in file.images.folder)
        images = chosen(images, names, f"an image ({file.images.where(split)})", listed)
        masks = chosen(masks, names, f"a mask ({file.masks.where(split)})", listed)
    matched = match(images, masks, f"in {places[1]}", f"in {places[0]}", _HINT)
    return checked_pairs(matched, modes=None, settings=file.image_settings)
