"""Anyone's images and masks in two folders, with the classes named in a file beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from segrobust.data.base import JointTransform
from segrobust.data.images import Size, pair_files
from segrobust.data.paired import PairedFiles
from segrobust.label_space import Color, LabelSpace, parse_names, parse_palette

_CLASSES = "classes.yaml"
_KEYS = {"names", "palette", "ignore_index"}


class Folder(PairedFiles):
    """Images in `images/<split>`, masks of the same names in `masks/<split>`, classes in `classes.yaml`.

    Images are of 8 bits per channel. Masks are PNGs of one 8-bit channel, grey or palette, whose values are class
    indices or void. The file of classes holds `names`, a list in the order of the indices; `palette`, a list of
    [R, G, B], where the default colours do not please; and `ignore_index`, where void is not 255.

    Args:
        root: Folder that holds `images`, `masks` and `classes.yaml`.
        split: Name of a folder below `images` and `masks`.
        size: `(H, W)` that every sample is resized to (bilinear with antialiasing; masks nearest); native sizes when
            None, which takes batches of one where they differ.
        transform: Applied to every sample that is read; nothing when None.

    Raises:
        ValueError: A folder or file is missing, files have no partner, a pair does not fit together, or the file of
            classes is not of that form.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        size: Size | None = None,
        transform: JointTransform | None = None,
    ) -> None:
        folder = Path(root)
        if not split or Path(split).name != split or split == "..":
            raise ValueError(f"split is the name of a folder below {folder / 'images'}, got {split!r}")
        super().__init__(
            label_space=_read_classes(folder / _CLASSES),
            pairs=pair_files(folder / "images" / split, folder / "masks" / split),
            size=size,
            transform=transform,
        )
        self.root = folder
        self.split = split

    def describe(self) -> str:
        """One line such as "harbour val, 40 images, 5 classes", by the name of the root folder."""
        name = self.root.resolve().name
        return f"{name} {self.split}, {len(self)} images, {self.label_space.num_classes} classes"


def _read_classes(path: Path) -> LabelSpace:
    if not path.is_file():
        raise ValueError(f"{path} is missing; write into it `names: [sky, road, ...]`, in the order of the indices")
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict) or "names" not in data or not data.keys() <= _KEYS:
        got = sorted(map(str, data)) if isinstance(data, dict) else data
        raise ValueError(f"{path} must hold names, and may hold palette and ignore_index, got {got!r}")
    ignore_index = data.get("ignore_index", 255)
    if not isinstance(ignore_index, int) or not 0 <= ignore_index <= 255:
        raise ValueError(f"{path}: ignore_index must be a value that a mask can hold, 0..255, got {ignore_index!r}")
    try:
        names = parse_names(data["names"])
        palette = parse_palette(data["palette"]) if "palette" in data else default_palette(len(names))
        return LabelSpace(names=names, palette=palette, ignore_index=ignore_index)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def default_palette(num_classes: int) -> tuple[Color, ...]:
    """Colours for at most 255 classes, all different and far from black.

    The bits of `index + 1` are dealt to the highest free bits of red, green and blue in turn, as the masks of the
    PASCAL VOC challenge are coloured (VOC development kit, `VOClabelcolormap`); its colour 0, black, is left to void.
    """
    return tuple(_voc_color(index + 1) for index in range(num_classes))


def _voc_color(index: int) -> Color:
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (index & 1) << bit
        green |= (index >> 1 & 1) << bit
        blue |= (index >> 2 & 1) << bit
        index >>= 3
    return red, green, blue
