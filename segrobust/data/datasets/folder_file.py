"""`classes.yaml`: the classes of a folder of images and masks, what its files hold, and where they lie."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from segrobust.data.files.class_colors import default_palette
from segrobust.data.files.image_files import IMAGE_SUFFIXES
from segrobust.data.files.image_settings import IMAGE_KEYS, ImageSettings
from segrobust.data.files.mask_values import (
    parse_ignore,
    parse_values,
    summary,
    summary_of_classes,
    value_table,
    void_label,
)
from segrobust.data.files.masks import MASK_SUFFIXES
from segrobust.data.files.patterns import NESTED, SPLIT, Pattern
from segrobust.data.files.value_table import ValueTable, pack
from segrobust.label_space import WIDE_IGNORE_INDEX, Color, LabelSpace, parse_names, parse_palette
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.documents import read_yaml
from segrobust.untrusted.printable import is_printable, shortened

FILE_NAME: Final = "classes.yaml"

_KEYS: Final = (
    *("names", "palette", "values", "ignore", "ending", "images", "masks", "list"),
    *("ignore_index", "void_color", *sorted(IMAGE_KEYS)),
)
_INDICES_ONLY: Final = ("ignore_index", "void_color")


@dataclass(frozen=True, kw_only=True)
class FolderFile:
    """What a file of classes says.

    Attributes:
        label_space: names, colours, and the label of void.
        integers: from the integers of masks to labels; None where masks are in colours.
        colors: from the colours of masks to labels; None where masks have integers alone.
        reading: what `values` and `ignore` say, in short; empty without them.
        rules: both in full, for fingerprints.
        image_settings: how images are read.
        images: where images lie.
        masks: where masks lie.
        list: path of a list of names below the root, with `{split}`; None where all files belong to the split.
    """

    label_space: LabelSpace
    integers: ValueTable | None
    colors: ValueTable | None
    reading: str
    rules: dict[str, object]
    image_settings: ImageSettings
    images: Pattern
    masks: Pattern
    list: str | None

    @property
    def has_splits(self) -> bool:
        """Whether the name of a split decides about files."""
        return SPLIT in self.images.folder or SPLIT in (self.list or "")


def read_folder_file(path: Path) -> FolderFile:
    """Reads a file of classes.

    Raises:
        DataFault: it is missing, no YAML, or a key is missing, unknown or of another form.
    """
    try:
        data: Any = read_yaml(path, "a file of classes")
    except FileNotFoundError:
        if not path.parent.exists():
            place = path.parent.parent.resolve()
            raise DataFault(f"there is no folder {path.parent} (in {place})", kind="layout") from None
        raise DataFault(
            f"{path} is missing; write into it `names: [sky, road, ...]`, in the order of the indices, or let "
            f"`segrobust data init {path.parent}` write it",
            kind="layout",
        ) from None
    if not isinstance(data, dict) or "names" not in data or not data.keys() <= {*_KEYS}:
        got = shortened(sorted(data) if isinstance(data, dict) else data)
        allowed = f"{path} must hold names, and may hold {', '.join(_KEYS[1:])}, got {got}"
        raise DataFault(f"{allowed}{_meant(data)}", kind="classes")
    try:
        return _parse(data)
    except ValueError as error:
        raise DataFault(f"{path}: {error}", kind="classes") from error


def _meant(data: object) -> str:
    """For each unknown key, the key that is written most like it."""
    unknown = [key for key in data if key not in _KEYS] if isinstance(data, dict) else []
    nearest = {key: get_close_matches(str(key).lower(), _KEYS, n=1) for key in unknown}
    pairs = [f"{shortened(key)} may be {found[0]}" for key, found in nearest.items() if found]
    return f"; {', '.join(pairs)}" if pairs else ""


def _parse(data: Mapping[str, Any]) -> FolderFile:
    names = parse_names(data["names"])
    images, masks = _patterns(data)
    tables = _explicit(names, data) if {"values", "ignore"} & data.keys() else _by_index(names, data)
    listed = data.get("list")
    if listed is not None:
        Pattern.parse(listed, "list", frozenset({".txt"}))
    settings = ImageSettings.read(data)
    found = FolderFile(**tables, image_settings=settings, images=images, masks=masks, list=listed)
    if found.has_splits and listed is None and SPLIT not in masks.folder:
        raise ValueError(f"images has {SPLIT} and masks has not: one mask would serve several splits")
    return found


def _explicit(names: tuple[str, ...], data: Mapping[str, Any]) -> dict[str, Any]:
    """Tables where `values` or `ignore` say what masks hold."""
    for key in _INDICES_ONLY:
        if key in data:
            raise ValueError(f"{key} cannot be combined with values and ignore; write its value into ignore")
    values = parse_values(data.get("values", list(range(len(names)))), names)
    ignore = parse_ignore(data["ignore"], values) if "ignore" in data else ()
    colors = tuple(entry[0] for entry in values if isinstance(entry[0], tuple))
    palette = parse_palette(data["palette"]) if "palette" in data else colors or default_palette(len(names))
    space = LabelSpace(names=names, palette=palette, ignore_index=void_label(len(names)))
    table = value_table(space, values, ignore)
    return {
        "label_space": space,
        "integers": None if colors else table,
        "colors": table if colors else None,
        "reading": f"values {summary_of_classes(values)}" + (f", void {summary(ignore)}" if ignore else ""),
        "rules": {"values": [entry[0] if len(entry) == 1 else entry for entry in values], "ignore": ignore},
    }


def _by_index(names: tuple[str, ...], data: Mapping[str, Any]) -> dict[str, Any]:
    """Tables where masks hold class indices and `ignore_index`, or the colours of the palette."""
    ignore_index = data.get("ignore_index", void_label(len(names)))
    if type(ignore_index) is not int or not 0 <= ignore_index <= WIDE_IGNORE_INDEX:
        got = shortened(ignore_index)
        raise ValueError(f"ignore_index must be a value that a mask can hold, 0..65535, got {got}")
    palette = parse_palette(data["palette"]) if "palette" in data else default_palette(len(names))
    space = LabelSpace(names=names, palette=palette, ignore_index=ignore_index)
    return {
        "label_space": space,
        "integers": value_table(space, [(label,) for label in range(len(names))], (ignore_index,)),
        "colors": _palette_table(data, space),
        "reading": "" if space.void_class is None else f"class {ignore_index} {space.void_class!r} is void",
        "rules": {},
    }


def _palette_table(data: Mapping[str, Any], space: LabelSpace) -> ValueTable | None:
    """Colours that masks may have; None where the file gives no palette, or one that cannot be read back."""
    given = "void_color" in data
    if "palette" not in data:
        if given:
            raise ValueError("void_color is for masks in colours, which need a palette")
        return None
    void: Color
    (void,) = parse_palette([data["void_color"]]) if given else ((0, 0, 0),)
    if given and void in space.palette:
        raise ValueError(f"void_color {void} is also the colour of class {space.names[space.palette.index(void)]!r}")
    if len(set(space.palette)) != len(space.palette):
        return None
    labels = {pack(void): space.ignore_index} | {pack(color): label for label, color in enumerate(space.palette)}
    return ValueTable(labels, "those of the palette and of void", are_colors=True)


def _patterns(data: Mapping[str, Any]) -> tuple[Pattern, Pattern]:
    """Where images and masks lie."""
    images = Pattern.parse(data.get("images", f"images/{SPLIT}"), "images", IMAGE_SUFFIXES)
    masks = Pattern.parse(data.get("masks", f"masks/{SPLIT}"), "masks", MASK_SUFFIXES)
    if "ending" not in data:
        return images, masks
    if masks.beginning or masks.ending or str(data.get("masks")).removesuffix(NESTED).endswith("*"):
        raise ValueError("ending and a * in masks both say how mask names end; write one of them")
    ending = data["ending"]
    if not isinstance(ending, str) or not ending or not is_printable(ending):
        raise ValueError(f"ending must be how mask names end, such as _mask.png, got {shortened(ending)}")
    return images, masks.ending_in(ending, "ending")
