"""What the integers of a label mask mean: class names, colours, and the value of pixels that do not count."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeGuard

import torch
from torch import Tensor

from segrobust.untrusted.printable import check_printable, shortened

Color: TypeAlias = tuple[int, int, int]

WIDE_IGNORE_INDEX = 65535
"""Void of label spaces in which 255 is a class, by the convention of masks of 16 bits."""

WITH_VOID_LAST: Final = {12: "SegNet's CamVid", 20: "Cityscapes"}
"""Data sets whose masks often number void after the last class, by the number of classes with it."""

_VOID_COLOR: Color = (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """The classes of a data set, numbered from 0, and the value of void pixels.

    Attributes:
        names: one name per class, in the order of the indices; no name twice.
        palette: one RGB colour per class, each channel in 0..255. Paint only: two spaces that differ in nothing else
            are the same to `require_equal`.
        ignore_index: value of void pixels. The index of a class makes that class void: networks of some authors have an
            output for void, which the ground truth then never holds. Where 255 is a class, it must be another.

    Raises:
        ValueError: no class, a name twice or that cannot be printed, a palette of another length or outside 0..255, or
            an `ignore_index` of 255 where 255 is a class.
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("a label space needs at least one class, got names=()")
        for index, name in enumerate(self.names):
            check_printable(name, f"the name of class {index}")
        twice = sorted(name for name, number in Counter(self.names).items() if number > 1)
        if twice:
            raise ValueError(f"class names must differ, got more than once: {', '.join(twice[:8])}")
        if len(self.palette) != len(self.names):
            raise ValueError(
                f"got {len(self.palette)} colours for {len(self.names)} classes; give one (R, G, B) per class"
            )
        for name, color in zip(self.names, self.palette, strict=True):
            if len(color) != 3 or not all(0 <= channel <= 255 for channel in color):
                raise ValueError(f"the colour of {name!r} must be three integers in 0..255, got {shortened(color)}")
        check_ignore_index(self.ignore_index, self.num_classes)

    @property
    def num_classes(self) -> int:
        """Number of classes K, the logits of a network; void is one of them only where `ignore_index` is a class."""
        return len(self.names)

    @property
    def void_class(self) -> str | None:
        """Name of the class that `ignore_index` makes void; None where void is no class."""
        return self.names[self.ignore_index] if 0 <= self.ignore_index < self.num_classes else None

    def check(self, mask: Tensor) -> None:
        """Refuses labels that are neither a class nor void.

        Args:
            mask: integer labels of any shape.

        Raises:
            ValueError: a foreign value; the message names the values and how many pixels have them.
        """
        mask = mask.long()  # a byte compared with a negative ignore_index would wrap around
        foreign = mask[((mask < 0) | (mask >= self.num_classes)) & (mask != self.ignore_index)]
        if foreign.numel() == 0:
            return
        values = torch.unique(foreign).tolist()
        shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
        raise ValueError(
            f"{foreign.numel()} of {mask.numel()} label pixels hold {shown}; allowed are 0..{self.num_classes - 1} "
            f"({self.num_classes} classes) and ignore_index={self.ignore_index}. Map the raw labels to class indices, "
            f"or name the missing classes in the label space"
        )

    def colorize(self, mask: Tensor) -> Tensor:
        """Paints a mask in the colours of the palette, void in black.

        Args:
            mask: class indices and void, `(..., H, W)`.

        Returns:
            RGB colours `(..., H, W, 3)`, uint8, on the mask's device.

        Raises:
            ValueError: a label outside the label space.
        """
        mask = mask.long()  # bytes compared with a void above 255 would wrap around
        self.check(mask)
        colors = torch.tensor([*self.palette, _VOID_COLOR], dtype=torch.uint8, device=mask.device)
        return colors[torch.where(mask == self.ignore_index, self.num_classes, mask)]

    def to_dict(self) -> dict[str, object]:
        """Lists, strings and integers only, for JSON and for checkpoints that load with `weights_only=True`."""
        return {
            "names": list(self.names),
            "palette": [list(color) for color in self.palette],
            "ignore_index": self.ignore_index,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LabelSpace":
        """The inverse of `to_dict`.

        Raises:
            ValueError: a missing or unknown key, or a value that is not of the kind that `to_dict` writes.
        """
        expected = {"names", "palette", "ignore_index"}
        if set(data) != expected:
            raise ValueError(f"a label space has the keys {sorted(expected)}, got {shortened([*data])}")
        names, palette, ignore_index = data["names"], data["palette"], data["ignore_index"]
        if type(ignore_index) is not int:
            raise ValueError(f"ignore_index must be an integer, got {shortened(ignore_index)}")
        return cls(names=parse_names(names), palette=parse_palette(palette), ignore_index=ignore_index)

    def require_equal(self, other: "LabelSpace", mine: str, theirs: str) -> None:
        """Refuses a label space whose class names, their order, or void value differ from these.

        Args:
            other: the space to compare with.
            mine: what this space belongs to, for the message ("train data").
            theirs: what `other` belongs to ("val data").

        Raises:
            ValueError: the two differ; the message shows both and the first class at which they part.
        """
        if (self.names, self.ignore_index) == (other.names, other.ignore_index):
            return
        raise ValueError(
            f"label spaces differ ({_first_difference(self, other)})\n"
            f"  {mine}: {_summary(self)}\n  {theirs}: {_summary(other)}\n"
            f"Use data and weights that agree on the classes and their order"
        )


def check_ignore_index(ignore_index: int, num_classes: int) -> None:
    """Refuses the usual void of 255 where 255 is a class: its pixels would be ignored.

    Args:
        ignore_index: label of void pixels; others than 255 are meant as they are, such as a class that is left out.
        num_classes: classes K of the network.

    Raises:
        ValueError: `ignore_index` is 255 and K is larger.
    """
    if ignore_index == 255 < num_classes:
        raise ValueError(
            f"ignore_index=255 is also one of the {num_classes} classes, whose pixels would be void: give "
            f"ignore_index={WIDE_IGNORE_INDEX}, or the label of void pixels in your masks, or a data set whose label "
            f"space has it"
        )


def parse_names(value: object) -> tuple[str, ...]:
    """Class names from a parsed JSON or YAML value.

    Raises:
        ValueError: it is not a list of strings.
    """
    if not _is_list(value) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"class names must be a list of strings, got {shortened(value)}")
    return tuple(value)


def parse_palette(value: object) -> tuple[Color, ...]:
    """RGB colours from a parsed JSON or YAML value.

    Raises:
        ValueError: it is not a list of triples of integers.
    """
    if not _is_list(value) or not all(_is_list(color) and len(color) == 3 for color in value):
        raise ValueError(f"a palette must be a list of [R, G, B], got {shortened(value)}")
    if not all(type(channel) is int for color in value for channel in color):
        raise ValueError(f"palette channels must be integers in 0..255, got {shortened(value)}")
    return tuple((red, green, blue) for red, green, blue in value)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _summary(space: LabelSpace) -> str:
    return f"{space.num_classes} classes ({', '.join(space.names)}), ignore_index={space.ignore_index}"


def _first_difference(mine: LabelSpace, theirs: LabelSpace) -> str:
    for index, (a, b) in enumerate(zip(mine.names, theirs.names, strict=False)):
        if a != b:
            return f"class {index} is {a!r} on one side and {b!r} on the other"
    if mine.num_classes != theirs.num_classes:
        return f"{mine.num_classes} classes against {theirs.num_classes}"
    return f"ignore_index {mine.ignore_index} against {theirs.ignore_index}"
