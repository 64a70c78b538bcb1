"""Reads a whole data set and reports what is in it and what is wrong with it. It does not stop at the first fault."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from segrobust.data.datasets.paired import PairedFiles
from segrobust.data.files.images import Size
from segrobust.data.segmentation_dataset import SegmentationDataset
from segrobust.data.survey.observations import Observation, observe
from segrobust.untrusted.data_fault import DataFault

_LEAST_USED = 0.1
"""Share of a range below which it is probably not that of the sensor."""

Severity: TypeAlias = Literal["fault", "warning"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about some samples.

    Attributes:
        kind: in a word, such as "unreadable" or "duplicate".
        severity: a fault spoils numbers or ends a run; a warning may be as it should be.
        message: what, where, and how to fix it.
    """

    kind: str
    severity: Severity
    message: str


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a data set holds.

    Attributes:
        split: what it is for: train, val, test.
        description: its own line about itself; empty where it could not be made.
        example: image and mask file of its first sample; empty where it has no files.
        num_images: samples of the data set.
        num_read: samples that were read.
        stored: what the image files store; empty where there are none.
        extents: lowest and highest value of each channel in the images that were read, in the units of the files.
        sizes: how many images have a size, `(height, width)`.
        classes: names of the classes.
        class_pixels: pixels of each class.
        class_images: images in which each class occurs.
        void_pixels: pixels that are void.
        findings: faults first.
        digests: names of samples by the digest of their pixels, for duplicates between splits.
    """

    split: str
    description: str = ""
    example: tuple[str, ...] = ()
    num_images: int = 0
    num_read: int = 0
    stored: str = ""
    extents: tuple[tuple[float, float], ...] = ()
    sizes: dict[Size, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    class_pixels: tuple[int, ...] = ()
    class_images: tuple[int, ...] = ()
    void_pixels: int = 0
    findings: tuple[Finding, ...] = ()
    digests: dict[str, list[str]] = field(default_factory=dict, repr=False)

    def count(self, severity: Severity) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_dict(self) -> dict[str, object]:
        """A JSON value."""
        return {
            "split": self.split,
            "description": self.description,
            "example": list(self.example),
            "num_images": self.num_images,
            "num_read": self.num_read,
            "stored": self.stored,
            "extents": [{"lowest": lowest, "highest": highest} for lowest, highest in self.extents],
            "sizes": [
                {"height": size[0], "width": size[1], "images": number} for size, number in sorted(self.sizes.items())
            ],
            "classes": [
                {"name": name, "pixels": pixels, "images": images}
                for name, pixels, images in zip(self.classes, self.class_pixels, self.class_images, strict=True)
            ],
            "void_pixels": self.void_pixels,
            "findings": [asdict(finding) for finding in self.findings],
        }


def survey(
    dataset: SegmentationDataset,
    *,
    split: str,
    faults: Iterable[DataFault] = (),
    max_images: int | None = None,
    num_workers: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Survey:
    """Reads a data set.

    Args:
        dataset: read before its transform.
        split: what it is for.
        faults: what `gathered_faults` listed while it was made.
        max_images: read so many samples, spread evenly; all when None.
        num_workers: loading processes; 0 reads in this one.
        advance: called after every sample.

    Raises:
        ValueError: `max_images` below 1.
    """
    if max_images is not None and max_images < 1:
        raise ValueError(f"max_images must be at least 1, got {max_images}")
    number = min(len(dataset), max_images or len(dataset))
    indices = [position * len(dataset) // number for position in range(number)]
    observations = []
    for observation in observe(dataset, indices, num_workers):
        observations.append(observation)
        advance()
    counts, present = np.zeros((2, dataset.label_space.num_classes + 1), dtype=np.int64)
    for labelled in (observation.counts for observation in observations if observation.counts is not None):
        counts += labelled
        present += labelled > 0
    findings = [Finding(kind=fault.kind, severity="fault", message=str(fault)) for fault in faults]
    findings += [
        Finding(kind=kind, severity="fault", message=message)
        for observation in observations
        for kind, message in observation.faults
    ]
    pair = dataset.pairs[0] if isinstance(dataset, PairedFiles) else None
    return Survey(
        split=split,
        description=dataset.describe(),
        example=() if pair is None else (str(pair.image), str(pair.mask)),
        num_images=len(dataset),
        num_read=number,
        stored=dataset.describe_values() if isinstance(dataset, PairedFiles) else "",
        extents=_extents(observations),
        sizes=dict(Counter(o.size for o in observations if o.size is not None)),
        classes=dataset.label_space.names,
        class_pixels=tuple(counts[:-1].tolist()),
        class_images=tuple(present[:-1].tolist()),
        void_pixels=int(counts[-1]),
        findings=(*findings, *_warnings(dataset, observations, present)),
        digests=_by_digest(dataset, observations),
    )


def between_splits(surveys: Sequence[Survey]) -> Iterator[Finding]:
    """Images that are in two splits, and splits whose classes differ."""
    for first, second in combinations(surveys, 2):
        shared = first.digests.keys() & second.digests.keys()
        if shared:
            names = sorted(f"{first.digests[key][0]} = {second.digests[key][0]}" for key in shared)
            yield Finding(
                kind="leak",
                severity="fault",
                message=f"{len(shared)} images of {first.split} are also in {second.split}: {_some(names)}. What a "
                f"network was trained on says nothing of how well it does",
            )
        if first.classes and second.classes and first.classes != second.classes:
            yield Finding(
                kind="classes",
                severity="fault",
                message=f"the classes of {first.split} and {second.split} differ: {', '.join(first.classes[:6])} "
                f"against {', '.join(second.classes[:6])}",
            )


def _extents(observations: Iterable[Observation]) -> tuple[tuple[float, float], ...]:
    """Lowest and highest value of each channel."""
    read = [observation for observation in observations if observation.lowest]
    if not read:
        return ()
    lowest = [min(values) for values in zip(*(observation.lowest for observation in read), strict=True)]
    highest = [max(values) for values in zip(*(observation.highest for observation in read), strict=True)]
    return tuple(zip(lowest, highest, strict=True))


def _by_digest(dataset: SegmentationDataset, observations: Iterable[Observation]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for observation in observations:
        if observation.digest is not None:
            names.setdefault(observation.digest, []).append(dataset.names[observation.index])
    return names


def _warnings(
    dataset: SegmentationDataset, observations: Sequence[Observation], present: npt.NDArray[np.int64]
) -> Iterator[Finding]:
    """What may be as it should be, and often is not."""

    def warning(kind: str, message: str) -> Finding:
        return Finding(kind=kind, severity="warning", message=message)

    def named(chosen: Iterable[Observation]) -> list[str]:
        return [dataset.names[observation.index] for observation in chosen]

    empty = named(o for o in observations if o.counts is not None and not o.counts[:-1].any())
    if empty:
        text = "have no labelled pixel and leave every statistic"
        yield warning("empty mask", f"{len(empty)} masks {text}: {_some(empty)}")
    dark = named(o for o in observations if o.dark)
    if dark:
        yield warning("near-black", f"{len(dark)} images are near-black: {_some(dark)}")
    unused = _unused_range(dataset, _extents(observations))
    if unused:
        yield warning("range", unused)
    marks = sorted({value for o in observations for value, _ in o.far})
    if marks:
        names = named(o for o in observations if o.far)
        yield warning(
            "missing data",
            f"the values {', '.join(f'{value:g}' for value in marks[:4])} lie far from all others of their channel in "
            f"{len(names)} images: {_some(names)}. "
            f"If they mark missing data, state the range without them and `clip: true`, and label these pixels void",
        )
    turned = named(o for o in observations if o.turned)
    if turned:
        text = "ask viewers to turn them (EXIF); they are read as they are stored, as their masks should be"
        yield warning("turned", f"{len(turned)} images {text}: {_some(turned)}")
    groups = [" = ".join(names) for names in _by_digest(dataset, observations).values() if len(names) > 1]
    if groups:
        yield warning("duplicate", f"{len(groups)} images occur more than once: {_some(groups)}")
    space = dataset.label_space
    if not present[:-1].any():
        return
    absent = [n for n, number in zip(space.names, present, strict=False) if not number and n != space.void_class]
    if absent:
        text = f"{len(absent)} of {space.num_classes} classes occur in no image that was read: {_some(absent)}"
        binary = space.num_classes == 2 and present[-1] and space.ignore_index == 255
        hint = ". In masks of 0 and 255, 255 is void: write `values: [0, 255]` in classes.yaml" if binary else ""
        yield warning("absent class", text + hint)


def _unused_range(dataset: SegmentationDataset, extents: Sequence[tuple[float, float]]) -> str:
    """Whether the values fill a small part of the range, as those of 12 bits do in one of 16; empty if not."""
    if dataset.value_range is None or not extents:
        return ""
    used = dataset.value_range.used(extents)
    if used >= _LEAST_USED:
        return ""
    return (
        f"the values of the images that were read fill {used:.1%} of the range {dataset.value_range}, of which radii "
        f"are shares; state the range that the sensor uses"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
