"""Which files belong to a data set: listing folders, reading lists of names, pairing images with masks."""

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from segrobust.data.files.faults import found, gathering, left_out_at_fault
from segrobust.data.files.image_files import IMAGE_SUFFIXES, image_form, is_turned
from segrobust.data.files.image_settings import ImageSettings
from segrobust.data.files.images import Size
from segrobust.data.files.masks import INDEX_MODES, LOSSY_SUFFIXES, MASK_SUFFIXES, mask_size
from segrobust.data.files.paths import check_links, check_name
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.regular_files import read_limited

_MOST_NAMES: Final = 2**20
_LARGEST_LIST: Final = 2**24
"""Bytes; the longest list of a published data set has a hundredth of it."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image file, its mask file, the size `(H, W)` of both, and what the image stores: channels and type."""

    name: str
    image: Path
    mask: Path
    size: Size
    channels: int = 3
    dtype: str = "uint8"


def pair_files(image_folder: Path, mask_folder: Path, *, root: Path) -> tuple[Pair, ...]:
    """Pair images and masks by file name without suffix, sorted by name, and check their headers.

    Nothing is decoded.

    Args:
        image_folder: folder of images.
        mask_folder: folder of masks.
        root: folder of the data set, which no symbolic link may leave.

    Raises:
        DataFault: a folder is missing or empty, files have no partner, two files share a name, a name or link is not
            allowed, or a pair fails in its headers: see `checked_pairs`.
    """
    images = list_files(image_folder, IMAGE_SUFFIXES, "images", root=root)
    masks = list_files(mask_folder, MASK_SUFFIXES, "masks", root=root)
    return checked_pairs(match(images, masks, f"in {mask_folder}", f"in {image_folder}"))


def list_files(
    folder: Path, suffixes: frozenset[str], what: str, *, root: Path, beginning: str = "", ending: str = ""
) -> dict[str, Path]:
    """Files of a folder by sample name: the file name without suffix, beginning and ending. Hidden files are left out.

    Letters with accents have two encodings in Unicode, and file systems store either: names are composed (NFC).

    Args:
        folder: searched without its sub-folders.
        suffixes: allowed suffixes, in lower case.
        what: what the files are, for messages.
        root: folder of the data set, which no symbolic link may leave.
        beginning: files whose names begin otherwise are left out.
        ending: files whose names, without suffix, end otherwise are left out.

    Raises:
        DataFault: the folder is missing or has no such file, two files have one name, a name is not printable, or a
            symbolic link leads out of the root.
    """
    if not folder.is_dir():
        raise DataFault(f"the folder of {what} is missing: {folder}", kind="layout")
    check_links(folder, root)
    files: dict[str, Path] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, stem = folder / entry.name, unicodedata.normalize("NFC", Path(entry.name).stem)
        if path.suffix.lower() not in suffixes or entry.name.startswith("."):
            continue
        if not (stem.startswith(beginning) and stem.endswith(ending) and len(stem) > len(beginning + ending)):
            continue
        name = stem.removeprefix(beginning).removesuffix(ending)
        with left_out_at_fault():
            check_name(name, str(folder))
            if entry.is_symlink():
                check_links(path, root)
            if name in files:
                raise DataFault(
                    f"two files for one sample: {files[name]} and {path.name}; keep one of them", kind="unpaired"
                )
            files[name] = path
    if not files:
        star = f"{beginning}*{ending}" if beginning or ending else ""
        endings = ", ".join(f"{star}{suffix}" for suffix in sorted(suffixes))
        raise DataFault(f"no {what} in {folder}; looked for {endings}{_instead(folder, suffixes)}", kind="layout")
    return files


def _instead(folder: Path, suffixes: frozenset[str]) -> str:
    """What a folder holds instead of the files that were looked for, and why masks are not among them."""
    names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".") and not entry.is_dir()]
    found = Counter(Path(name).suffix.lower() for name in names)
    if not found:
        return ""
    there = ", ".join(f"{number} {suffix or 'without ending'}" for suffix, number in found.most_common(4))
    if suffixes <= MASK_SUFFIXES and found.keys() & LOSSY_SUFFIXES:
        there += ". These formats may change the values of a mask: write the masks as PNG, from where they were made"
    return f"; it holds {there}"


def match(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    masks_where: str,
    images_where: str,
    hint: str = "An image and its mask share their name, apart from the ending",
) -> list[tuple[str, Path, Path]]:
    """Name, image and mask of every sample, sorted by name.

    Args:
        images: files by sample name.
        masks: files by sample name.
        masks_where: where masks were looked for, for the message.
        images_where: where images were looked for.
        hint: how names belong together, for the message.

    Raises:
        DataFault: a file has no partner.
    """
    lonely = {
        f"images without a mask {masks_where}": images.keys() - masks.keys(),
        f"masks without an image {images_where}": masks.keys() - images.keys(),
    }
    if any(lonely.values()):
        listed = "; ".join(_names(stems, what) for what, stems in lonely.items() if stems)
        found(DataFault(f"{listed}. {hint}", kind="unpaired"))
    return [(name, images[name], masks[name]) for name in sorted(images.keys() & masks.keys())]


def chosen(files: Mapping[str, Path], names: Iterable[str], what: str, listed_in: Path) -> dict[str, Path]:
    """The files that a list names.

    Raises:
        DataFault: a name without a file.
    """
    names = [listed_name(name, files) for name in names]
    absent = [name for name in names if name not in files]
    if absent:
        found(DataFault(f"{_names(absent, f'names in {listed_in} without {what}')}", kind="unpaired"))
    return {name: files[name] for name in names if name in files}


def listed_name(name: str, files: Collection[str]) -> str:
    """The sample that a line of a list names, with or without the suffix of a file: `a` or `a.png`."""
    stem, dot, suffix = name.rpartition(".")
    is_file = f"{dot}{suffix.lower()}" in IMAGE_SUFFIXES | MASK_SUFFIXES
    return stem if name not in files and stem in files and is_file else name


def checked_pairs(
    files: Iterable[tuple[str, Path, Path]],
    *,
    modes: frozenset[str] | None = INDEX_MODES,
    settings: ImageSettings | None = None,
) -> tuple[Pair, ...]:
    """Pairs whose headers have been read. A mask that is no image file (`.mat`) is taken at its image's size.

    Args:
        files: name, image and mask of each sample.
        modes: Pillow modes that a mask may have; all that are read when None.
        settings: how images are read; pictures of 8 bits when None.

    Raises:
        DataFault: a header that cannot be read, too many pixels, more than 8 bits per channel without a range, a mask
            of a kind that is not read, or sizes or numbers of channels that differ.
    """
    pairs: list[Pair] = []
    for name, image, mask in files:
        with left_out_at_fault():
            labelled = mask_size(mask, modes) if mask.suffix.lower() in MASK_SUFFIXES else None
            form = image_form(image, settings or ImageSettings(), labelled)
            size = form.size
            if labelled is None:
                labelled = size
            if size != labelled:
                raise DataFault(
                    f"{image} is {size[1]}x{size[0]} but its mask {mask} is {labelled[1]}x{labelled[0]} "
                    f"(width x height); {_fix_of_size(image, size, labelled)}",
                    kind="size",
                )
            if pairs and form.channels != pairs[0].channels:
                raise DataFault(
                    f"{image} has {form.channels} channels, {pairs[0].image} has {pairs[0].channels}; all images of a "
                    f"data set have the same",
                    kind="mode",
                )
            pairs.append(Pair(name=name, image=image, mask=mask, size=size, channels=form.channels, dtype=form.dtype))
    return tuple(pairs)


def _fix_of_size(image: Path, size: Size, labelled: Size) -> str:
    """What to do about a mask of another size than its image."""
    if size == labelled[::-1] and is_turned(image):
        return (
            "the image asks viewers to turn it (EXIF orientation), and its mask is of the turned image: save the image "
            "turned, by PIL.ImageOps.exif_transpose"
        )
    return "a mask has one label per pixel of its image: resize one of them, masks by nearest neighbour"


def read_names(path: Path, *, root: Path, nested: bool = False) -> tuple[str, ...]:
    """Names of samples, one a line, from a list such as `ImageSets/Segmentation/val.txt`. Blank lines are left out.

    Args:
        path: the list.
        root: folder of the data set, which no symbolic link may leave.
        nested: whether names may begin with folders: `aachen/000001`.

    Raises:
        DataFault: the list is missing, too long or not text, names a file outside its folder, or a name twice.
    """
    check_links(path, root)
    try:
        text = read_limited(path, _LARGEST_LIST, "a list of names").decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataFault(f"the list of names is missing: {path}", kind="layout") from error
    except UnicodeDecodeError as error:
        raise DataFault(f"{path} is not a list of names in UTF-8: {error.reason}", kind="list") from error
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    if len(lines) > _MOST_NAMES:
        raise DataFault(f"{path} has {len(lines)} lines; a list of names has at most {_MOST_NAMES}", kind="too large")
    names: dict[str, None] = {}
    for name in (unicodedata.normalize("NFC", line) for line in lines if line):
        with left_out_at_fault():
            for part in name.split("/") if nested else [name]:
                check_name(part, str(path))
            if name in names:
                raise DataFault(f"{path} names {name} twice", kind="list")
            names[name] = None
    return tuple(names)


def _names(names: Iterable[str], what: str) -> str:
    """A count with the first five names, all of them for a check."""
    ordered = sorted(names)
    shown = len(ordered) if gathering() else 5
    return f"{len(ordered)} {what} ({', '.join(ordered[:shown])}{', ...' if len(ordered) > shown else ''})"
