"""Where the images and the masks of an unknown folder lie."""

import os
import re
import string
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from pathlib import Path
from typing import Final

from segrobust.data.files.image_files import IMAGE_SUFFIXES
from segrobust.data.files.listing import listed_name, read_names
from segrobust.data.files.masks import MASK_SUFFIXES
from segrobust.data.files.paths import check_links
from segrobust.data.files.patterns import NESTED, SPLIT, Pattern
from segrobust.data.first_look.pairing import Affixes, find_pairings
from segrobust.data.first_look.written import has_few_values, looks_like_masks, why_no_mask
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import is_printable

_DEEPEST: Final = 4
_MOST_FOLDERS, _MOST_FILES, _MOST_GROUPS = 500, 200_000, 24

_LETTERS: Final = string.ascii_letters
_SPLITS: Final = re.compile(
    r"(?<![a-z])(training|train|validation|valid|val|testing|test|dev)(?=[^a-z]|annot|mask|label|$)", re.IGNORECASE
)
_IMAGE_WORDS: Final = re.compile(r"im(age|g)|rgb|photo|frame|left|input|picture|scene", re.IGNORECASE)
_MASK_WORDS: Final = re.compile(r"mask|label|annot|gt|ground.?truth|seg|manual|target|class", re.IGNORECASE)
_OTHER_WORDS: Final = re.compile(r"colou?r|instance|object|overlay|preview|vis|depth|edge|polygon", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where images and masks lie.

    Attributes:
        images: pattern of the images.
        masks: pattern of the masks.
        splits: names of the splits; empty for a folder without.
        list: path of lists of names, with `{split}`; None without.
        others: number of pictures and arrays that are neither, by folder.
        alike: folders of others that differ from that of the images in one part of their paths.
        unread: files that are named like lists of splits and are none, and why.
    """

    images: Pattern
    masks: Pattern
    splits: tuple[str, ...] = ()
    list: str | None = None
    others: Mapping[str, int] = field(default_factory=dict)
    alike: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Files of one folder with one suffix, by name without suffix."""

    folder: str
    suffix: str
    names: dict[str, Path] = field(repr=False)

    @property
    def suffixes(self) -> set[str]:
        """All suffixes of its files."""
        return {path.suffix.lower() for path in self.names.values()}


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    layout: Layout
    score: float


def find_layout(root: Path) -> Layout:
    """The likeliest layout of a folder, by names of files and folders and by a look into a few files.

    Raises:
        DataFault: there are no images, or no masks that belong to them.
    """
    has_few_values.cache_clear()
    groups = _groups(root)
    parts = [*groups, *(part for group in groups for part in _by_first_word(group))]
    largest = sorted(parts, key=lambda group: -len(group.names))[:_MOST_GROUPS]
    candidates = [each for image, mask in product(largest, largest) for each in _candidates(root, image, mask)]
    if not candidates:
        raise _nothing_found(root, groups, largest)
    best = max(candidates, key=lambda each: each.score).layout
    best = max([best, *_over_folders(best)], key=lambda each: _num_pairs(root, each))
    splits = tuple(split for split in best.images.splits(root) if _has_files(root, best, split))
    best = replace(best, splits=splits) if SPLIT in best.images.folder else _with_lists(root, best)
    others = _others(root, groups, best)
    return replace(best, others=others, alike=_alike(best, others))


def _nothing_found(root: Path, groups: Sequence[_Group], largest: Sequence[_Group]) -> DataFault:
    """What is there instead of images and masks, and why files with the names of masks are none."""
    there = ", ".join(f"{len(group.names)} {group.suffix} in {group.folder}" for group in groups[:6] if group.suffix)
    read = IMAGE_SUFFIXES | MASK_SUFFIXES
    names = [name for _, _, files in islice(os.walk(root), _MOST_FOLDERS) for name in files if name[:1] != "."]
    endings = Counter(Path(name).suffix.lower() for name in names)
    foreign = [f"{number} {each}" for each, number in endings.most_common() if each and each not in read][:4]
    text = f"{root}: no images and masks that belong together were found ({there or 'no pictures at all'})"
    text += f". {', '.join(foreign)} are not read; convert them to a format that is" if foreign else ""
    reasons = [reason for image, mask in product(largest, largest) if (reason := _why_none(image, mask))]
    reason = reasons[0] if reasons else "Masks are PNG, TIFF, BMP, GIF or .npy, and their names hold those of images"
    return DataFault(f"{text}. {reason}", kind="layout")


def _why_none(image: _Group, mask: _Group) -> str:
    """Why the files of a group are no masks, though their names belong to those of another; empty if they do not."""
    if image is mask or _OTHER_WORDS.search(mask.folder) or not _MASK_WORDS.search(f"{mask.folder}/{min(mask.names)}"):
        return ""
    pairings = find_pairings(image.names, mask.names)
    paths = [path for name, path in mask.names.items() if pairings and _has(name, pairings[0].mask)]
    return next((reason for path in paths[:1] if (reason := why_no_mask(path))), "")


def _has_files(root: Path, layout: Layout, split: str) -> bool:
    """Whether a split has images and masks; an empty folder is no split."""
    try:
        return bool(layout.images.files(root, split, "images") and layout.masks.files(root, split, "masks"))
    except DataFault as fault:
        if fault.kind == "layout":
            return False
        raise


def _over_folders(layout: Layout) -> Iterator[Layout]:
    """The layout with `**` in the place of folders that images and masks have in common, as of scenes or cities."""
    image, mask = layout.images.folder.split("/"), layout.masks.folder.split("/")
    runs = [(start, stop) for start in range(len(image)) for stop in range(start + 1, len(image) + 1)]
    for (start, stop), place in product(sorted(runs, key=lambda run: run[1] - run[0]), range(len(mask))):
        run, end = image[start:stop], place + stop - start
        if run != mask[place:end] or SPLIT in "/".join(image[start:]) or SPLIT in "/".join(mask[place:]):
            continue
        folders = ["/".join([*image[:start], NESTED, *image[stop:]]), "/".join([*mask[:place], NESTED, *mask[end:]])]
        patterns = [replace(p, folder=folder) for p, folder in zip((layout.images, layout.masks), folders, strict=True)]
        yield replace(layout, images=patterns[0], masks=patterns[1])


def _num_pairs(root: Path, layout: Layout) -> int:
    """Number of images with a mask, of all splits."""
    number = 0
    for split in layout.images.splits(root) or ("",):
        if _has_files(root, layout, split):
            images, masks = (p.files(root, split, "files").keys() for p in (layout.images, layout.masks))
            number += len(images & masks)
    return number


def _alike(layout: Layout, others: Mapping[str, int]) -> tuple[str, ...]:
    """Folders of pictures that are not read and differ from that of the images in one part, as scenes or cities do."""
    found = []
    for folder in others:
        parts, own = folder.split("/"), layout.images.folder.split("/")
        pairs = [(a, b) for a, b in zip(parts, own, strict=False) if a != b and SPLIT not in b and b != NESTED]
        if len(parts) == len(own) > 1 and len(pairs) == 1 and not _MASK_WORDS.search(pairs[0][0]):
            found.append(folder)
    return tuple(found)


def _groups(root: Path) -> list[_Group]:
    """All pictures and arrays below a folder, by folder and suffix; where no name is there twice, also by folder."""
    found: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    number = 0
    for place, (folder, names, files) in enumerate(os.walk(root)):
        below = Path(folder).relative_to(root)
        names[:] = sorted(n for n in names if n[:1] != "." and is_printable(n)) if len(below.parts) < _DEEPEST else []
        for file in sorted(files):
            path = Path(folder) / file
            if file[:1] == "." or path.suffix.lower() not in IMAGE_SUFFIXES | MASK_SUFFIXES or not is_printable(file):
                continue
            try:
                check_links(path, root)
            except DataFault:
                continue
            number += 1
            found[below.as_posix(), path.suffix.lower()][unicodedata.normalize("NFC", path.stem)] = path
        if place >= _MOST_FOLDERS or number >= _MOST_FILES:
            break
    groups = [_Group(folder=folder, suffix=suffix, names=files) for (folder, suffix), files in found.items()]
    return [*groups, *_of_all_suffixes(groups)]


def _of_all_suffixes(groups: Sequence[_Group]) -> Iterator[_Group]:
    """The files of folders that hold several formats and no name twice, as one group each, whose suffix is empty."""
    folders: dict[str, list[_Group]] = defaultdict(list)
    for group in groups:
        folders[group.folder].append(group)
    for folder, parts in folders.items():
        names = {name: path for part in parts for name, path in part.names.items()}
        if len(parts) > 1 and len(names) == sum(len(part.names) for part in parts):
            yield _Group(folder=folder, suffix="", names=names)


def _by_first_word(group: _Group) -> list[_Group]:
    """The parts of a group whose names begin with different words, such as `img_001` and `mask_001`."""
    parts: dict[str, dict[str, Path]] = defaultdict(dict)
    for name, path in group.names.items():
        parts[name[: len(name) - len(name.lstrip(_LETTERS))].lower()][name] = path
    if not 1 < len(parts) < _MOST_GROUPS or "" in parts:
        return []
    return [replace(group, names=names) for names in parts.values()]


def _candidates(root: Path, image: _Group, mask: _Group) -> Iterator[_Candidate]:
    """Layouts in which one group holds the images and another, or the same, the masks."""
    if not image.suffixes <= IMAGE_SUFFIXES or not mask.suffixes <= MASK_SUFFIXES:
        return
    for pairing in find_pairings(image.names, mask.names)[:8]:
        if image is mask and pairing.mask == pairing.image:
            continue
        masks = [path for name, path in mask.names.items() if _has(name, pairing.mask)]
        images = [path for name, path in image.names.items() if _has(name, pairing.image) and path not in {*masks}]
        if not images or not looks_like_masks(masks):
            continue
        folders, split = _by_split(image.folder, mask.folder)
        layout = Layout(
            images=_pattern(folders[0], pairing.image, image, IMAGE_SUFFIXES, root),
            masks=_pattern(folders[1], pairing.mask, mask, MASK_SUFFIXES, root),
        )
        where_image, where_mask = f"{image.folder}/{pairing.image}", f"{mask.folder}/{pairing.mask}"
        score = (
            10 * pairing.share * len(images) ** 0.01
            + 3 * bool(_MASK_WORDS.search(where_mask))
            + 2 * bool(_IMAGE_WORDS.search(where_image))
            - 3 * bool(_MASK_WORDS.search(where_image))
            - 4 * bool(_OTHER_WORDS.search(where_mask))
            + bool(split)
            - 0.01 * sum(map(len, (*pairing.image, *pairing.mask)))
        )
        yield _Candidate(layout=layout, score=score - 8 * looks_like_masks(images[:2]))


def _has(name: str, affixes: Affixes) -> bool:
    return len(name) > len("".join(affixes)) and name.startswith(affixes.beginning) and name.endswith(affixes.ending)


def _by_split(image: str, mask: str) -> tuple[tuple[str, str], str]:
    """Both folders with `{split}` in the place of the same word, and that word; empty where there is none."""
    for word in dict.fromkeys(_SPLITS.findall(image)):
        if word in _SPLITS.findall(mask):
            replaced = [re.sub(rf"(?<![a-z]){word}", SPLIT, folder, count=1) for folder in (image, mask)]
            return (replaced[0], replaced[1]), word
    return (image, mask), ""


def _pattern(folder: str, affixes: Affixes, group: _Group, suffixes: frozenset[str], root: Path) -> Pattern:
    """The pattern of a group; with its suffix where the folder holds pictures with others."""
    others = {path.suffix.lower() for path in (root / group.folder).iterdir()} & (IMAGE_SUFFIXES | MASK_SUFFIXES)
    return Pattern(
        folder=folder,
        beginning=affixes.beginning,
        ending=affixes.ending,
        suffixes=suffixes if others == group.suffixes or not group.suffix else frozenset({group.suffix}),
    )


def _others(root: Path, groups: Sequence[_Group], layout: Layout) -> dict[str, int]:
    """Files that belong to no split of a layout, by folder."""
    used: set[Path] = set()
    for split in layout.splits if SPLIT in layout.images.folder else ("",):
        for pattern in (layout.images, layout.masks):
            used.update(pattern.files(root, split, "files").values())
    counts = Counter({group.folder: 0 for group in groups})
    for group in groups:
        counts[group.folder] += bool(group.suffix) and sum(path not in used for path in group.names.values())
    return {folder: number for folder, number in counts.most_common() if number}


def _with_lists(root: Path, layout: Layout) -> Layout:
    """The layout with the lists of names that the folder holds for its splits, such as ImageSets/Segmentation."""
    names = layout.images.files(root, "", "images")
    found: dict[str, list[str]] = defaultdict(list)
    unread = {}
    for path in sorted(root.rglob("*.txt"))[:_MOST_FOLDERS]:
        if _SPLITS.fullmatch(path.stem) is None and path.stem != "trainval":
            continue
        try:
            listed = read_names(path, root=root)
        except DataFault as fault:
            unread[path.relative_to(root).as_posix()] = f"{fault}; write one name a line, without folders"
            continue
        if listed and all(listed_name(name, names) in names for name in listed):
            found[path.relative_to(root).parent.as_posix()].append(path.stem)
    if not found:
        return replace(layout, unread=unread)
    folder = max(found, key=lambda each: ("seg" in each.lower(), len(found[each])))
    return replace(layout, list=f"{folder}/{SPLIT}.txt".removeprefix("./"), splits=tuple(found[folder]))
