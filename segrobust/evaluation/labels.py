"""What the masks of some samples hold, looked at before the work: classes, void, and values that are neither."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segrobust.evaluation.dataset import SampleSource, label_space_of, load_sample, name_of
from segrobust.label_space import WITH_VOID_LAST, LabelSpace

MOST_MASKS = 32
"""Masks that are read before the work, spread over the samples: enough for most classes, few beside one attack."""

_LEAST_VOID = 0.01
"""A share of void pixels below which they are a border between objects."""

_MEANS_VOID = re.compile(
    r"void|unlabell?ed|unannotated|undefined|unknown|invalid|ignored?|no[ _-]?(label|data|class)|don'?t[ _-]?care",
    re.IGNORECASE,
)
"""Names that data sets give to void."""

_SHOWN = 8
"""Names and values in a message."""


@dataclass(frozen=True, kw_only=True)
class LabelSurvey:
    """What the masks of some samples hold.

    Attributes:
        num_samples: samples that the masks are of, read or not.
        num_masks: masks that were read.
        ignore_index: label of void pixels.
        class_names: one name per class of the network.
        class_pixels: pixels of each class.
        void_pixels: pixels that are void.
        foreign_pixels: pixels of every value that is neither a class nor void.
        foreign_names: names of the samples with such values.
        void_is_frame: whether void is padding, or at the same place of every image, or absent.
    """

    num_samples: int
    num_masks: int
    ignore_index: int
    class_names: tuple[str, ...]
    class_pixels: tuple[int, ...]
    void_pixels: int
    foreign_pixels: dict[int, int]
    foreign_names: tuple[str, ...]
    void_is_frame: bool

    @property
    def void_share(self) -> float:
        """Share of void among all pixels; nan if no mask was read."""
        total = sum(self.class_pixels) + self.void_pixels + sum(self.foreign_pixels.values())
        return self.void_pixels / total if total else float("nan")

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes without a pixel, but for a class that is left out by `ignore_index`."""
        pairs = enumerate(zip(self.class_names, self.class_pixels, strict=True))
        return tuple(name for index, (name, number) in pairs if not number and index != self.ignore_index)

    def describe(self) -> str:
        """One line: the share of void and the absent classes."""
        if not self.num_masks:
            return "labels: no mask could be read"
        counted = len(self.class_names) - (0 <= self.ignore_index < len(self.class_names))
        line = f"labels of {self._masks}: {counted - len(self.absent)} of {counted} classes occur"
        if self.absent:
            line += f" (absent: {_some(self.absent)})"
        line += f"; {self.void_share:.1%} of the pixels are void ({self.ignore_index})"
        if 0 <= self.ignore_index < len(self.class_names):
            line += f". Void is {self._named(self.ignore_index)}: no pixel counts that belongs to it"
        return line

    @property
    def counted_void(self) -> str:
        """Which class is counted though it is probably void, and what to write; empty if there is none.

        By its name; without names, the last of as many classes as a known data set has with void.
        """
        counted = [label for label, number in enumerate(self.class_pixels) if number]
        named = [label for label in counted if _MEANS_VOID.fullmatch(self.class_names[label].strip())]
        if named:
            reason = "its name says"
        else:
            classes = len(self.class_names)
            is_plain = self.class_names == tuple(map(str, range(classes)))
            if not is_plain or self.void_pixels or classes not in WITH_VOID_LAST or not self.class_pixels[-1]:
                return ""
            named, reason = [classes - 1], f"in masks of {WITH_VOID_LAST[classes]} with {classes} classes it is"
        label = named[-1]
        share = self.class_pixels[label] / sum(self.class_pixels)
        return (
            f"{self._named(label)} is counted as a class, with {share:.0%} of the labelled pixels of {self._masks}. If "
            f"it is void, as {reason}, give ignore_index={label}, or write `ignore: [{label}]` in classes.yaml"
        )

    def _named(self, label: int) -> str:
        name = self.class_names[label]
        return f"class {label}" if name == str(label) else f"class {label} {name!r}"

    @property
    def doubt(self) -> str:
        """Why the labels are nearly certainly not what they should be; empty if there is no reason.

        One class alone is common, and so are void frames and void at the same place of every image. Class 0 alone
        beside void of other shapes is what masks of 0 and 255 for two classes look like.
        """
        if self.num_masks and not sum(self.class_pixels) and not self.foreign_pixels:
            return (
                f"all pixels of {self._masks} are void ({self.ignore_index}), so that there is nothing to attack. Give "
                f"ignore_index= the label of void pixels in your masks"
            )
        if self.void_is_frame or self.foreign_pixels or self.void_share < _LEAST_VOID:
            return ""
        if not self.class_pixels[0] or any(self.class_pixels[1:]):
            return ""
        return (
            f"in {self._masks}, class 0 is the only class and {self.void_share:.0%} of the pixels are void "
            f"({self.ignore_index}): they are ignored. If {self.ignore_index} is meant as a class, as in masks of 0 "
            f"and 255, write its class index instead"
        )

    @property
    def foreign(self) -> str:
        """Which values are neither a class nor void, where, and what to do; empty if there is none."""
        if not self.foreign_pixels:
            return ""
        values, classes = sorted(self.foreign_pixels), len(self.class_names)
        return (
            f"{len(self.foreign_names)} of {self._masks} hold labels that are neither a class nor void: "
            f"{_some(map(str, values))} ({sum(self.foreign_pixels.values())} pixels; {_some(self.foreign_names)}); "
            f"allowed are 0..{classes - 1} (the network's {classes} classes) and ignore_index={self.ignore_index}. "
            f"{self._fix(values)}"
        )

    def _fix(self, values: Sequence[int]) -> str:
        classes = len(self.class_names)
        if values == [255]:
            if classes == 2 and not self.class_pixels[1]:
                return "In masks of 0 and 255 for two classes, write 1 instead of 255"
            if 0 <= self.ignore_index < classes:
                return f"If 255 is void beside class {self.ignore_index}, write one for the other in the masks"
            return "If 255 is void, give ignore_index=255"
        if values == [classes] and not self.class_pixels[0]:
            return "The classes seem to be numbered from 1: subtract 1 from the labels, and write void for 0"
        if len(values) == 1 and values[0] < 0:
            return f"If {values[0]} is void, give ignore_index={values[0]}"
        return "Map these labels to classes, or to ignore_index if they are void"

    @property
    def _masks(self) -> str:
        if self.num_masks == self.num_samples:
            return f"{self.num_masks} mask{'s' if self.num_masks > 1 else ''}"
        return f"{self.num_masks} of {self.num_samples} masks"


class LabelCounter:
    """Counts the labels of masks, one after the other.

    Args:
        ignore_index: label of void pixels.
    """

    def __init__(self, ignore_index: int) -> None:
        self.num_masks = 0
        self._ignore_index = ignore_index
        self._pixels: Counter[int] = Counter()
        self._values: list[tuple[str, list[int]]] = []
        self._void: Tensor | None = None
        self._is_frame = True

    def add(self, mask: Tensor, name: str) -> None:
        """Counts the labels of a mask.

        Args:
            mask: `(H, W)` int64.
            name: of its sample.
        """
        self.num_masks += 1
        values, numbers = (each.tolist() for each in torch.unique(mask, return_counts=True))
        self._pixels.update(dict(zip(values, numbers, strict=True)))
        self._values.append((name, values))
        void = mask == self._ignore_index
        if not _is_frame(void):
            first = void if self._void is None else self._void
            self._is_frame &= void.shape == first.shape and void.equal(first)
            self._void = first

    def survey(self, *, num_samples: int, num_classes: int, space: LabelSpace | None) -> LabelSurvey:
        """What the masks hold.

        Args:
            num_samples: samples that the masks are of, read or not.
            num_classes: classes K of the network.
            space: names of the classes, if it has as many; numbers if None.
        """
        ignore_index, pixels = self._ignore_index, self._pixels
        foreign = {v: number for v, number in pixels.items() if _is_foreign(v, num_classes, ignore_index)}
        fits = space is not None and space.num_classes == num_classes
        return LabelSurvey(
            num_samples=num_samples,
            num_masks=self.num_masks,
            ignore_index=ignore_index,
            class_names=space.names if space is not None and fits else tuple(map(str, range(num_classes))),
            class_pixels=tuple(pixels[value] if value != ignore_index else 0 for value in range(num_classes)),
            void_pixels=pixels[ignore_index],
            foreign_pixels=foreign,
            foreign_names=tuple(name for name, values in self._values if not foreign.keys().isdisjoint(values)),
            void_is_frame=self._is_frame,
        )


def survey_labels(
    dataset: SampleSource, ids: Sequence[int], *, num_classes: int, ignore_index: int, most: int = MOST_MASKS
) -> LabelSurvey:
    """Reads some masks and counts their labels. Samples that cannot be read are left out.

    Args:
        dataset: where the samples are from.
        ids: positions of the samples.
        num_classes: classes K of the network.
        ignore_index: label of void pixels.
        most: number of masks to read, spread evenly over `ids`.
    """
    number = min(len(ids), most)
    counter = LabelCounter(ignore_index)
    for index in (ids[place * len(ids) // number] for place in range(number)):
        try:
            mask = load_sample(dataset, index).mask
        except (OSError, ValueError):
            continue
        counter.add(mask, name_of(dataset, index))
    return counter.survey(num_samples=len(ids), num_classes=num_classes, space=label_space_of(dataset))


def _is_foreign(value: int, num_classes: int, ignore_index: int) -> bool:
    return not 0 <= value < num_classes and value != ignore_index


def _is_frame(void: Tensor) -> bool:
    """Whether `(H, W)` bool leaves a rectangle free, or nothing: padding, or no void at all."""
    free = ~void
    return bool((free.any(1)[:, None] & free.any(0)).equal(free))


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")
