"""Anyone's images and masks in two folders, with the classes named in a file beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segrobust.data.datasets.paired import PairedFiles, mask_modes
from segrobust.data.files.class_colors import default_palette
from segrobust.data.files.color_masks import ColorTable
from segrobust.data.files.image_settings import IMAGE_KEYS, ImageSettings
from segrobust.data.files.images import COLOR_MODES, Size, mask_mode
from segrobust.data.files.listing import pair_files
from segrobust.data.files.paths import check_links, check_name
from segrobust.data.segmentation_dataset import JointTransform, Labels
from segrobust.label_space import WIDE_IGNORE_INDEX, LabelSpace, parse_names, parse_palette
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.documents import read_yaml
from segrobust.untrusted.printable import shortened

_CLASSES = "classes.yaml"
_KEYS = {"names", "palette", "ignore_index", "void_color"} | IMAGE_KEYS


class Folder(PairedFiles):
    """Images in `images/<split>`, masks of the same names in `masks/<split>`, classes in `classes.yaml`.

    Images are pictures of 8 bits per channel, which become RGB. Where the file of classes states the `range` of their
    values, `[lowest, highest]` for all channels or a list with one such pair for each, they may have any number of
    channels of any type: TIFF, `.npy` in `(H, W, C)` or `(C, H, W)`, PNG of 16 bits. All channels are then read as they
    are stored, and the range becomes [0, 1]; `clip: true` moves values outside to its limits. `bands` names the
    channels that pictures show, counted from 0.

    Masks are PNGs of one 8-bit channel, grey or palette, whose values are class indices or void; or, where the file of
    classes gives a palette, RGB PNGs in its colours. That file holds `names`, a list in the order of the indices;
    `palette`, a list of [R, G, B], where masks are in colours or the default colours do not please; `ignore_index`,
    where void is not 255 (65535 for more than 255 classes, whose masks are PNGs of one 16-bit channel); and
    `void_color`, where void is not black in masks in colours.

    Args:
        root: folder that holds `images`, `masks` and `classes.yaml`.
        split: name of a folder below `images` and `masks`.
        size: `(H, W)` that every sample is resized to (bilinear with antialiasing; masks nearest); native sizes when
            None, which takes batches of one where they differ.
        transform: applied to every sample that is read; nothing when None.

    Raises:
        ValueError: a folder or file is missing, files have no partner, a pair does not fit together, or the file of
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
        check_name(split, "split")
        check_links(folder / _CLASSES, folder)
        classes = _read_classes(folder / _CLASSES)
        self._colors = classes.colors
        self.title = folder.resolve().name
        modes = mask_modes(classes.label_space) | (COLOR_MODES if classes.colors is not None else frozenset())
        pairs = pair_files(
            folder / "images" / split, folder / "masks" / split, root=folder, modes=modes, settings=classes.images
        )
        super().__init__(
            split=split,
            label_space=classes.label_space,
            pairs=pairs,
            size=size,
            transform=transform,
            settings=classes.images,
        )

    def read_labels(self, path: Path) -> Labels:
        """Labels of a mask file: its values, or what its colours stand for."""
        if self._colors is not None and mask_mode(path) in COLOR_MODES:
            return self._colors.read(path)
        return super().read_labels(path)


@dataclass(frozen=True, kw_only=True)
class _Classes:
    label_space: LabelSpace
    colors: ColorTable | None
    images: ImageSettings


def _read_classes(path: Path) -> _Classes:
    try:
        data: Any = read_yaml(path, "a file of classes")
    except FileNotFoundError as error:
        raise DataFault(
            f"{path} is missing; write into it `names: [sky, road, ...]`, in the order of the indices", kind="layout"
        ) from error
    if not isinstance(data, dict) or "names" not in data or not data.keys() <= _KEYS:
        got = shortened(sorted(data) if isinstance(data, dict) else data)
        raise DataFault(
            f"{path} must hold names, and may hold {', '.join(sorted(_KEYS - {'names'}))}, got {got}", kind="classes"
        )
    try:
        names = parse_names(data["names"])
        ignore_index = data.get("ignore_index", 255 if len(names) <= 255 else WIDE_IGNORE_INDEX)
        if type(ignore_index) is not int or not 0 <= ignore_index <= WIDE_IGNORE_INDEX:
            got = shortened(ignore_index)
            raise ValueError(f"ignore_index must be a value that a mask can hold, 0..65535, got {got}")
        palette = parse_palette(data["palette"]) if "palette" in data else default_palette(len(names))
        label_space = LabelSpace(names=names, palette=palette, ignore_index=ignore_index)
        return _Classes(
            label_space=label_space, colors=_color_table(data, label_space), images=ImageSettings.read(data)
        )
    except ValueError as error:
        raise DataFault(f"{path}: {error}", kind="classes") from error


def _color_table(data: dict[str, Any], space: LabelSpace) -> ColorTable | None:
    """Colours that masks may have; None where the file of classes gives no palette, or one that cannot be read back."""
    given = "void_color" in data
    if "palette" not in data:
        if given:
            raise ValueError("void_color is for masks in colours, which need a palette")
        return None
    (void,) = parse_palette([data["void_color"]]) if given else ((0, 0, 0),)
    if given and void in space.palette:
        raise ValueError(f"void_color {void} is also the colour of class {space.names[space.palette.index(void)]!r}")
    if len(set(space.palette)) != len(space.palette):
        return None
    return ColorTable({void: space.ignore_index} | {color: label for label, color in enumerate(space.palette)})
