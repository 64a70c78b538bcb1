"""The file of classes that a first look proposes, with what was counted and what was guessed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from segrobust.data.files.mask_values import summary
from segrobust.data.files.masks import MASK_SUFFIXES
from segrobust.data.files.patterns import SPLIT, Pattern
from segrobust.data.files.value_table import pack, unpack
from segrobust.data.first_look.layouts import Layout
from segrobust.data.first_look.measured import Measured
from segrobust.data.first_look.written import Written
from segrobust.label_space import WITH_VOID_LAST
from segrobust.untrusted.pictures import opened_picture
from segrobust.untrusted.printable import visible

_VOID_INTEGERS: Final = (255, 65535, -1)
_VOID_COLOR: Final = pack((224, 224, 192))
"""Borders of objects in PASCAL VOC."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A file of classes, and the guesses in it.

    Attributes:
        text: of the file.
        guesses: a line for each.
    """

    text: str
    guesses: tuple[str, ...]


def propose(layout: Layout, written: Written, masks: Sequence[Path], measured: Measured) -> Proposal:
    """A file of classes for what was found.

    Args:
        layout: where images and masks lie.
        written: what some masks hold.
        masks: these masks.
        measured: what some images hold.
    """
    void = _guess_void(written)
    values = [value for value in sorted(written.pixels) if value not in void]
    names = _names(len(values), values)
    guesses = [
        *_guesses_of_layout(layout),
        *measured.guesses,
        *_guesses_of_values(written, values, void),
        *_palette(masks, written),
    ]
    total = sum(written.pixels.values())
    shown = {value: json.dumps(_written(value, written)) for value in written.pixels}
    lines = [
        f"# Proposed by `segrobust data init` from {written.num_masks} masks. Name the classes, correct what is wrong.",
        *(f"# {visible(guess)}" for guess in guesses),
        "names:",
    ]
    for name, value in zip(names, values, strict=True):
        lines.append(f"  - {name}  # {shown[value]}: {_share(value, written, total)}")
    lines.append(f"values: [{', '.join(shown[value] for value in values)}]")
    if void:
        counted = "; ".join(f"{shown[value]}: {_share(value, written, total)}" for value in void)
        lines.append(f"ignore: [{', '.join(shown[value] for value in void)}]  # void. {counted}")
    lines += [*measured.lines, *_places(layout)]
    return Proposal(text="\n".join(lines) + "\n", guesses=tuple(guesses))


def _guess_void(written: Written) -> list[int]:
    """Values that are void by convention, where enough others are there to be classes."""
    if written.colors:
        return [_VOID_COLOR] if _VOID_COLOR in written.pixels and len(written.pixels) > 2 else []
    void = [value for value in _VOID_INTEGERS if value in written.pixels]
    others = [value for value in written.pixels if value not in void]
    largest = max(others, default=0)
    is_void = len(others) >= 2 and largest < min((value for value in void if value > 0), default=2**32) - 1
    return void[:1] if is_void else [value for value in void if value < 0 and others]


def _names(number: int, values: Sequence[int]) -> list[str]:
    if number == 2 and values[0] == 0:
        return ["background", "foreground"]
    return [f"class_{index}" for index in range(number)]


def _guesses_of_layout(layout: Layout) -> list[str]:
    by_split = f", splits {', '.join(layout.splits)}" if layout.splits else ", no splits"
    where = [f"images are {_place(layout.images)}, masks are {_place(layout.masks)}{by_split}"]
    if layout.others:
        listed = ", ".join(f"{number} in {folder}" for folder, number in [*layout.others.items()][:6])
        where.append(f"pictures that are neither: {listed}" + (", ..." if len(layout.others) > 6 else ""))
    if layout.alike:
        where.append(
            f"NOT READ, though they lie like the images: {', '.join(layout.alike[:6])}. Put their "
            f"masks where those of the others lie, or make a data set of each folder"
        )
    where += [f"{path} is not read as a list of a split: {reason}" for path, reason in layout.unread.items()]
    return [*where, f"names of each split are in {layout.list}"] if layout.list else where


def _guesses_of_values(written: Written, values: Sequence[int], void: Sequence[int]) -> list[str]:
    what = "colours" if written.colors else "integers"
    shown = summary([unpack(value) if written.colors else value for value in values])
    guesses = [f"masks hold {what}: {shown} for {len(values)} classes" + ("" if void else ", and no void")]
    if void:
        listed = summary([unpack(value) if written.colors else value for value in void])
        guesses.append(f"{listed} is void by convention; if it is a class, move it from ignore to values")
    if written.is_noisy:
        guesses.append(
            "most of these values are at single pixels, as in masks that were saved as JPEG or resized smoothly: make "
            "the masks anew, or give each class all its values, such as `values: [0..127, 128..255]`"
        )
    if written.palettes:
        guesses.append(f"{written.palettes}, so the colours are the classes, and not the indices")
    zero = written.pixels.get(0, 0)
    if zero and len(values) > 2:
        name = "[0, 0, 0]" if written.colors else "0"
        guesses.append(f"{name} is taken for a class; if it is void, move it from names and values to ignore")
    if not written.colors and values:
        missing = sorted({*range(min(values[0], 1), min(values[-1], 1000))} - {*written.pixels})
        if missing and len(values) > 2:
            guesses.append(f"{summary(missing)} occur in none of these masks; add those that are classes, in order")
    if values == [*range(len(values))] and len(values) in WITH_VOID_LAST and not void:
        data = WITH_VOID_LAST[len(values)]
        guesses.append(f"{values[-1]} is void in many masks of {data}; if it is here, write `ignore: [{values[-1]}]`")
    if len(values) < 2:
        guesses.append("these masks hold one class; name the others, and write their values")
    return guesses


def _palette(masks: Sequence[Path], written: Written) -> list[str]:
    """Where masks have a palette, that its indices are read."""
    path = masks[0]
    if written.colors or path.suffix.lower() == ".npy":
        return []
    with opened_picture(path) as picture:
        if picture.mode != "P":
            return []
        colors = _palette_colors(picture, [value for value in sorted(written.pixels) if 0 <= value < 256][:6])
    return [f"masks have a palette, whose indices are the values; its colours are {colors}"]


def _palette_colors(picture: Image.Image, indices: Sequence[int]) -> str:
    channels = (picture.getpalette() or []) + [0] * 768
    return ", ".join(f"{index}: {channels[3 * index : 3 * index + 3]}" for index in indices)


def _share(value: int, written: Written, total: int) -> str:
    share = 100 * written.pixels[value] / total
    return f"{written.pixels[value]} pixels ({share:.3g} %) in {written.masks[value]} of {written.num_masks} masks"


def _written(value: int, written: Written) -> object:
    return list(unpack(value)) if written.colors else value


def _place(pattern: Pattern) -> str:
    return pattern.where(SPLIT).removeprefix("./")


def _places(layout: Layout) -> list[str]:
    """The keys that say where files lie, where they are not at the usual places."""
    lines = []
    if _place(layout.images) != f"images/{SPLIT}":
        lines.append(f"images: {json.dumps(_place(layout.images), ensure_ascii=False)}")
    masks = layout.masks
    only_ending = bool(masks.ending) and not masks.beginning and masks.folder != "."
    folder = Pattern(folder=masks.folder, suffixes=MASK_SUFFIXES) if only_ending else masks
    if _place(folder) != f"masks/{SPLIT}":
        lines.append(f"masks: {json.dumps(_place(folder), ensure_ascii=False)}")
    if only_ending:
        suffix = next(iter(masks.suffixes)) if len(masks.suffixes) == 1 else ""
        lines.append(f"ending: {json.dumps(masks.ending + suffix, ensure_ascii=False)}")
    return lines + ([f"list: {json.dumps(layout.list, ensure_ascii=False)}"] if layout.list else [])
