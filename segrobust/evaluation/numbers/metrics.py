"""The table of metrics: the name of each, its inputs, its computation, and where it is shown.

A metric is one entry of `METRICS` (how a network classifies the images at one radius) or of `NORM_METRICS` (minimal
norms), a line of docs/numbers.md, and a test. All writers iterate over these tables: every metric is in `summary.json`
and in a table of the page, those at radii also in `tables/scores.csv` and in the menu of the page's curves. Terminal,
headlines and logs show the ones that name them in `places`.

In Python, values are shares in [0, 1] and norms in image units. `written` gives the value in the unit of its metric.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from segrobust.evaluation.numbers.metric_inputs import (
    CAPS,
    ImageShares,
    Norms,
    RegionCounts,
    counts,
    images,
    norms,
    regions,
)
from segrobust.evaluation.numbers.worst_case import Goal, miou_of_counts
from segrobust.evaluation.run.records import Record
from segrobust.metrics import (
    SIZES,
    ConfusionCounts,
    accuracy,
    asr,
    class_accuracy,
    iou_per_class,
    mean_capped,
    miou_dataset,
    miou_image,
    quantiles,
)

T = TypeVar("T")
Floats = npt.NDArray[np.float64]

Unit = Literal["%", "norm"]
"""Percent, or a norm: image units in files and logs, x/255 where people read one of l_inf."""

Group = Literal["scores", "success", "regions", "worst images", "norms"]
"""The table of the page that a metric is in."""

Place = Literal["headline", "clean", "terminal", "results", "log clean", "log attack", "log by-product"]
"""- `headline`: every table by radius; of norms, the table of minimal norms of every report.
- `clean`: the line about the images without attack, in the terminal and `summary.md`.
- `terminal`: in the terminal, the table "where it breaks"; of norms, the table of minimal norms.
- `results`: the table of results of Weights & Biases.
- `log clean`, `log attack`, `log by-product`: logged for images without attack, for an attack or the worst of several,
  for minimal-norm perturbations projected into the ball."""


@dataclass(frozen=True, kw_only=True)
class Metric(Generic[T]):
    """One metric.

    Args:
        key: name in Python, CSV and JSON: lower-case letters, digits and `_`.
        label: heading of a column.
        title: name in a menu.
        unit: of the written value.
        higher_is_better: whether a larger value means a more robust network.
        needs: a function of `metric_inputs`; the metric is nan where it gives None.
        compute: from the result of `needs` to a share in [0, 1], or a norm in image units.
        explanation: what the metric is, for docs/numbers.md, the page and `tables/columns.csv`.
        group: table of the page.
        family: first cell of the line in docs/numbers.md that several metrics share; empty for the label.
        log_key: name in log keys; empty for the key.
        places: where else it is shown.
        interval: from confusion counts summed over resampled images, `(R, 3, K)` with tp, fp and fn, to `(R,)` values;
            None for metrics without bootstrap interval.
        worst_case: the choice of attacks per image that gives the worst case of this metric: that with the lowest aAcc,
            or that with the lowest mIoU^D.
        count: number of objects behind the value, if it counts neither images nor pixels.
    """

    key: str
    label: str
    title: str
    unit: Unit = "%"
    higher_is_better: bool = True
    needs: Callable[[Sequence[Record]], T | None]
    compute: Callable[[T], float]
    explanation: str
    group: Group = "scores"
    family: str = ""
    log_key: str = ""
    places: frozenset[Place] = frozenset()
    interval: Callable[[Floats], Floats] | None = None
    worst_case: Goal = "accuracy"
    count: Callable[[T], int] | None = None

    @property
    def log_name(self) -> str:
        """Name in log keys."""
        return self.log_key or self.key

    @property
    def docs_name(self) -> str:
        """First cell of its line in docs/numbers.md."""
        return self.family or self.label


def in_place(metrics: Iterable[Metric[Any]], place: Place) -> tuple[Metric[Any], ...]:
    """The metrics that are shown in a place."""
    return tuple(metric for metric in metrics if place in metric.places)


def written(unit: str, value: float) -> float:
    """A value in its unit: shares in percent."""
    return 100 * value if unit == "%" else value


def mean_of(values: Sequence[float]) -> float:
    """The mean of at least one number."""
    return sum(values) / len(values)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _lowest(values: Tensor, percent: int) -> float:
    """Mean over the lowest values, at least one."""
    return values.sort().values[: math.ceil(percent / 100 * len(values))].mean().item()


def _iou_of_images(confusion: ConfusionCounts) -> Tensor:
    return iou_per_class(confusion).nanmean(1)


def _dice(confusion: ConfusionCounts) -> Tensor:
    """Per class, nan where it is absent from the ground truth."""
    dice = 2 * confusion.tp.double() / (2 * confusion.tp + confusion.fp + confusion.fn)
    return dice.where(confusion.tp + confusion.fn > 0, math.nan)


def _frequency_weighted_iou(confusion: ConfusionCounts) -> float:
    pixels = (confusion.tp + confusion.fn).double()
    return (pixels / pixels.sum() * iou_per_class(confusion)).nansum().item()


def _accuracies(confusion: ConfusionCounts) -> Tensor:
    return confusion.tp.sum(1).double() / (confusion.tp + confusion.fn).sum(1)


def _accuracy_of_counts(sums: Floats) -> Floats:
    tp, _, fn = np.moveaxis(sums.sum(-1), -1, 0)
    share: Floats = tp / np.fmax(tp + fn, 1)
    return share


def _class_apsr(confusion: ConfusionCounts) -> float:
    recall = confusion.tp.double() / (confusion.tp + confusion.fn)
    return 1 - recall.nanmean(1).mean().item()


def _asr_from(percent: int) -> Metric[ImageShares]:
    return Metric(
        key=f"asr_from_{percent}",
        label=f"ASR at {percent} % broken",
        title=f"images with {percent} % of their pixels broken",
        higher_is_better=False,
        needs=images,
        compute=lambda shares: mean_of([float(apsr >= percent / 100) for apsr in shares.apsr]),
        explanation="share of images in which at least 90, 95 or 99 % of the valid pixels are broken within a radius",
        group="success",
        family="ASR at 90, 95, 99 %",
    )


def _worst_images(
    key: str, label: str, per_image: Callable[[ConfusionCounts], Tensor], percent: int, *places: Place
) -> Metric[ConfusionCounts]:
    """A score of the images in which it is lowest."""
    return Metric(
        key=f"{key}_worst_{percent}",
        label=f"{label}, worst {percent} %",
        title=f"{label} of the worst {percent} % of the images",
        needs=counts,
        compute=lambda confusion: _lowest(per_image(confusion), percent),
        explanation="the image's mIoU or aAcc, averaged over the 5, 10 or 25 % of the images in which it is lowest "
        "(mIoU^(I^q))",
        group="worst images",
        family="worst 5, 10, 25 %",
        places=frozenset(places),
    )


def _objects(index: int) -> Iterator[Metric[RegionCounts]]:
    """Objects found, and pixels classified correctly, among objects of one size."""
    size = SIZES[index]
    yield Metric(
        key=f"{size}_objects_found",
        label=f"{size} found",
        title=f"{size} objects found",
        needs=regions,
        compute=lambda region: _share(region.objects[index][1], region.objects[index][0]),
        explanation="share of the objects of a size with at least half of their pixels correct. An object is a "
        "connected area of one class: small below 1/300 of the image, medium from there to 1/33, large above",
        group="regions",
        family="small, medium, large found",
        places=frozenset({"terminal"}),
        count=lambda region: region.objects[index][0],
    )
    yield Metric(
        key=f"{size}_objects_accuracy",
        label=f"{size} aAcc",
        title=f"pixel accuracy on {size} objects",
        needs=regions,
        compute=lambda region: _share(region.objects[index][3], region.objects[index][2]),
        explanation="share of correctly classified pixels of these objects",
        group="regions",
        family="small, medium, large aAcc",
    )


_LOGGED: Final[frozenset[Place]] = frozenset({"log clean", "log attack", "log by-product"})

METRICS: Final[tuple[Metric[Any], ...]] = (
    Metric(
        key="miou",
        label="mIoU^D",
        title="mIoU over the data set (mIoU^D)",
        needs=counts,
        compute=lambda confusion: miou_dataset(confusion).item(),
        explanation="IoU from counts summed over the data set, averaged over the classes that occur in its ground "
        "truth",
        places=_LOGGED | {"headline", "clean", "results"},
        interval=miou_of_counts,
        worst_case="miou",
    ),
    Metric(
        key="miou_image",
        label="mIoU^I",
        title="mIoU, mean over images (mIoU^I)",
        needs=counts,
        compute=lambda confusion: miou_image(confusion).item(),
        explanation="mean over images of each image's mean IoU; not comparable with mIoU^D",
        places=frozenset({"clean"}),
    ),
    Metric(
        key="accuracy",
        label="aAcc",
        title="pixel accuracy (aAcc)",
        needs=counts,
        compute=lambda confusion: accuracy(confusion).item(),
        explanation="share of valid pixels that are classified correctly",
        log_key="acc",
        places=_LOGGED | {"headline", "clean", "results"},
        interval=_accuracy_of_counts,
    ),
    Metric(
        key="mean_class_accuracy",
        label="mAcc",
        title="class accuracy (mAcc)",
        needs=counts,
        compute=lambda confusion: class_accuracy(confusion).item(),
        explanation="mean over classes of the share of a class's valid pixels that are classified correctly",
        places=frozenset({"clean"}),
    ),
    Metric(
        key="dice",
        label="Dice",
        title="Dice score, mean over classes",
        needs=counts,
        compute=lambda confusion: _dice(confusion.total()).nanmean().item(),
        explanation="2 tp / (2 tp + fp + fn) from counts summed over the data set, averaged over the classes that "
        "occur in its ground truth",
        worst_case="miou",
    ),
    Metric(
        key="frequency_weighted_iou",
        label="fwIoU",
        title="frequency-weighted IoU (fwIoU)",
        needs=counts,
        compute=lambda confusion: _frequency_weighted_iou(confusion.total()),
        explanation="IoU from counts summed over the data set, averaged over classes with the share of valid pixels "
        "that belong to the class as weight",
        worst_case="miou",
    ),
    Metric(
        key="mean_apsr",
        label="APSR",
        title="broken pixels (mean APSR)",
        higher_is_better=False,
        needs=images,
        compute=lambda shares: mean_of(shares.apsr),
        explanation="attack pixel success rate: the share of an image's valid pixels that are misclassified "
        "(untargeted) or classified as their target (targeted), averaged over images. It includes pixels that are "
        "wrong without attack; compare with the clean APSR beside it",
        group="success",
        log_key="apsr",
        places=_LOGGED | {"clean", "results"},
    ),
    Metric(
        key="mean_clean_apsr",
        label="clean APSR",
        title="broken pixels without attack (mean clean APSR)",
        higher_is_better=False,
        needs=images,
        compute=lambda shares: mean_of(shares.clean_apsr),
        explanation="the APSR of the same images without attack",
        group="success",
    ),
    Metric(
        key="mean_class_apsr",
        label="class-balanced APSR",
        title="broken pixels, mean over classes",
        higher_is_better=False,
        needs=counts,
        compute=_class_apsr,
        explanation="mean over images of the mean over an image's classes of the share of misclassified pixels: small "
        "classes count as much as large ones",
        group="success",
    ),
    Metric(
        key="asr",
        label="ASR",
        title="broken images (ASR)",
        higher_is_better=False,
        needs=images,
        compute=lambda shares: mean_of([float(success) for success in shares.success]),
        explanation="attack success rate: the share of images that are broken, within a radius (fixed budget) or by a "
        "perturbation of any size (minimal norm). One minimal-norm run gives it for every radius: the share of images "
        "whose norm is at most eps",
        group="success",
        places=frozenset({"log attack", "results"}),
    ),
    *(_asr_from(percent) for percent in (90, 95, 99)),
    Metric(
        key="boundary_accuracy",
        label="border aAcc",
        title="accuracy near class borders",
        needs=regions,
        compute=lambda region: _share(region.border[1], region.border[0]),
        explanation="accuracy within 1 % of the image's diagonal from a border between classes",
        group="regions",
        places=frozenset({"terminal"}),
    ),
    Metric(
        key="interior_accuracy",
        label="interior aAcc",
        title="accuracy inside classes",
        needs=regions,
        compute=lambda region: _share(region.interior[1], region.interior[0]),
        explanation="accuracy of all other valid pixels",
        group="regions",
        places=frozenset({"terminal"}),
    ),
    *(metric for index in range(len(SIZES)) for metric in _objects(index)),
    _worst_images("miou_image", "mIoU^I", _iou_of_images, 5),
    _worst_images("miou_image", "mIoU^I", _iou_of_images, 10, "terminal"),
    _worst_images("miou_image", "mIoU^I", _iou_of_images, 25),
    *(_worst_images("accuracy", "aAcc", _accuracies, percent) for percent in (5, 10, 25)),
)
"""Of the images at one radius, in the order of columns."""


def _quartile(key: str, label: str, probability: float) -> Metric[Norms]:
    return Metric(
        key=key,
        label=label,
        title=f"{label} of the norms",
        unit="norm",
        needs=norms,
        compute=lambda found: quantiles(found.values, (probability,))[0],
        explanation="of the norms, with failures as `inf`. An infinite median means that the attack failed on more "
        "than half of the images",
        group="norms",
        family="median, IQR",
        places=frozenset({"headline"}),
    )


NORM_METRICS: Final[tuple[Metric[Any], ...]] = (
    Metric(
        key="asr",
        label="ASR",
        title="broken images (ASR)",
        higher_is_better=False,
        needs=norms,
        compute=lambda found: asr(found.values),
        explanation=next(metric for metric in METRICS if metric.key == "asr").explanation,
        group="norms",
        places=frozenset({"headline", "log attack"}),
    ),
    _quartile("lower_quartile", "lower quartile", 0.25),
    _quartile("median", "median", 0.5),
    _quartile("upper_quartile", "upper quartile", 0.75),
    Metric(
        key="median_capped",
        label="median of min(norm, cap)",
        title="median of min(norm, cap)",
        unit="norm",
        needs=norms,
        compute=lambda found: quantiles(found.values.clamp(max=found.cap), (0.5,))[0],
        explanation="the median of the norms after each is limited to a cap "
        f"(l_inf {255 * CAPS['linf']:g}/255, l2 {CAPS['l2']:g}, l1 {CAPS['l1']:g}), so that logs are finite",
        group="norms",
        log_key="median_norm",
        places=frozenset({"log attack"}),
    ),
    Metric(
        key="mean_capped",
        label="mean of min(norm, cap)",
        title="mean of min(norm, cap)",
        unit="norm",
        needs=norms,
        compute=lambda found: mean_capped(found.values, found.cap),
        explanation="the mean with the same cap: a failure (`inf`) counts as the cap; read it with the ASR",
        group="norms",
        log_key="mean_norm_capped",
        places=frozenset({"log attack"}),
    ),
    *(
        replace(metric, group="norms", places=metric.places & {"results"} | {"terminal"})
        for metric in METRICS
        if metric.key in ("mean_apsr", "mean_clean_apsr")
    ),
)
"""Of minimal norms, of one attack or the smallest of several."""

UNITS: Final[dict[str, Unit]] = {
    **{metric.key: metric.unit for metric in (*METRICS, *NORM_METRICS)},
    **{"iou": "%", "asr_at": "%", "asr_intervals": "%"},
}
"""Units of all numbers of a summary that have one."""


def in_units(content: Any, unit: str = "") -> Any:
    """Nested dictionaries and lists with every number in its unit: that of the key, or of a key above it.

    Integers are counts, and stay.
    """
    if isinstance(content, dict):
        return {key: in_units(value, UNITS.get(key, unit)) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [in_units(value, unit) for value in content]
    return written(unit, content) if isinstance(content, float) else content
