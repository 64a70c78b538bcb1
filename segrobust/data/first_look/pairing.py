"""Which files of two folders belong together, by their names."""

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

_ENOUGH: Final = 30
"""Images whose masks are looked for, at random."""

_LEAST: Final = 0.3
"""Share of these names that must have a mask; half of them where images and masks lie in one folder are masks."""

_SEPARATORS: Final = "_-. "


class Affixes(NamedTuple):
    """How names begin and end around what an image and its mask share."""

    beginning: str
    ending: str


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How names of images and masks belong together.

    Attributes:
        image: around the shared part in names of images.
        mask: around it in names of masks.
        share: of the images that were looked at, those with a mask.
    """

    image: Affixes
    mask: Affixes
    share: float


def find_pairings(images: Collection[str], masks: Collection[str]) -> list[Pairing]:
    """Ways to pair names without suffix, those with the most pairs first.

    Args:
        images: names in one folder.
        masks: names in another folder, or other names of the same one.
    """
    ordered = sorted(images)
    chosen, there = random.Random(0).sample(ordered, min(len(ordered), _ENOUGH)), sorted(masks)
    if images is not masks and all(name in masks for name in chosen):
        return [Pairing(image=Affixes("", ""), mask=Affixes("", ""), share=1.0)]
    found: dict[tuple[Affixes, Affixes], float] = {}
    for affixes in _image_affixes(ordered):
        counts: Counter[Affixes] = Counter()
        for name in chosen:
            core = name[len(affixes.beginning) : len(name) - len(affixes.ending)]
            counts.update({_around(core, mask) for mask in there if core and core in mask})
        for mask, number in counts.items():
            found[affixes, mask] = number / len(chosen)
    pairings = [
        Pairing(image=image, mask=mask, share=share) for (image, mask), share in found.items() if share >= _LEAST
    ]
    return sorted(pairings, key=lambda each: (-each.share, sum(map(len, (*each.image, *each.mask)))))


def _image_affixes(names: list[str]) -> Iterable[Affixes]:
    """No affixes, and those that all names share, cut where a word ends."""
    first = _common_start(names)
    last = _common_start([name[::-1] for name in names])[::-1]
    beginning = re.sub(r"\d+$", "", first) if len(names) > 1 else re.sub(r"\d.*$", "", first)
    ending = last[min((last.find(each) for each in _SEPARATORS if each in last), default=len(last)) :]
    if len(names) == 1:
        ending = ""
    return dict.fromkeys(Affixes(*each) for each in (("", ""), (beginning, ""), ("", ending), (beginning, ending)))


def _common_start(names: list[str]) -> str:
    """The longest text with which all names begin."""
    first, last = min(names), max(names)
    differing = (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(differing, min(len(first), len(last)))]


def _around(core: str, name: str) -> Affixes:
    before, _, after = name.partition(core)
    return Affixes(before, after)
