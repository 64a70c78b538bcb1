"""All numbers of an evaluation, and which kind of bound each is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from segrobust.evaluation.numbers.metrics import UNITS, in_units
from segrobust.functional.norms import NormName

SUMMARY_SCHEMA: Final = 3

Resampling = Literal["image", "sequence"]

BOUND_NORM: Final = "norms are upper bounds on the minimal norm of each image; success rates are lower bounds"
BOUND_FIXED: Final = "accuracy and mIoU are upper bounds on those under the strongest attack within eps"
BOUND_WORST: Final = "upper bound on the score within eps, with the worst of the attacks for each image"
BOUND_BY_PRODUCT: Final = "weak upper bound: a minimal-norm perturbation projected to radius eps, not optimised for it"
BOUND_CLEAN: Final = "exact: no attack"
BOUND_ANY: Final = "lower bound on the share of images that can be broken within eps: images broken by any attack"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The central 95 % of the bootstrap replicates; nan with too few images or recordings.

    The images are resampled, not the attack: an interval shows how much a number depends on the choice of images.
    """

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Values of metrics over images; `numbers["asr"]` reads one.

    Attributes:
        num_images: images behind these numbers.
        values: by the keys of `segrobust.evaluation.numbers.metrics`; shares in [0, 1], norms in image units, nan where
            a record lacks what the metric needs.
        intervals: of the metrics that have one.
        bound: which kind of bound these numbers are.
    """

    num_images: int
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    bound: str

    def __getitem__(self, key: str) -> float:
        if key not in self.values:
            raise KeyError(f"no metric {key!r}; there are {', '.join(self.values)}")
        return self.values[key]


@dataclass(frozen=True, kw_only=True)
class Scores(Numbers):
    """How a network classifies images at one radius.

    Attributes:
        eps: radius, image units; 0 for clean images.
        objects: number of objects behind each metric that counts objects.
        iou: per class; nan for classes absent from the ground truth.
    """

    eps: float
    objects: Mapping[str, int]
    iou: tuple[float, ...]

    @property
    def miou(self) -> float:
        """mIoU^D, over the whole set."""
        return self["miou"]

    @property
    def accuracy(self) -> float:
        """Pixel accuracy, aAcc."""
        return self["accuracy"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Passes and seconds of one call of an attack, averaged over images."""

    num_forwards: float
    num_backwards: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class NormSummary(Numbers):
    """Minimal norms over images, of one attack or the smallest of several; failures are counted as inf.

    Attributes:
        norm_name: the norm.
        cap: upper limit on norms in the metrics that stay finite.
        eps: radii.
        asr_at: share of images broken within each of these radii.
        asr_intervals: of these shares.
        cost: of one call; for several attacks, the sum over one call of each.
    """

    norm_name: NormName
    cap: float
    eps: tuple[float, ...]
    asr_at: tuple[float, ...]
    asr_intervals: tuple[Interval, ...]
    cost: Cost
    bound: str = BOUND_NORM


@dataclass(frozen=True, kw_only=True)
class MinimalNormSummary(NormSummary):
    """One minimal-norm attack.

    Attributes:
        attack: name of the job.
        digest: of the attack's identity.
        by_products: scores of the perturbations projected into balls.
    """

    attack: str
    digest: str
    by_products: tuple[Scores, ...]

    @property
    def label(self) -> str:
        """For people."""
        return self.attack

    @property
    def digests(self) -> tuple[str, ...]:
        """Of the attacks behind the numbers."""
        return (self.digest,)


@dataclass(frozen=True, kw_only=True)
class FoundBy:
    """What one attack contributes to the smallest of several.

    Attributes:
        attack: name of the job.
        digest: of the attack's identity.
        num_images: images on which it finds the smallest norm. Ties count for each attack, failures for none.
        num_missed: images on which it fails and another attack succeeds.
        ratio: of its norms to the smallest ones, at least 1: geometric mean over the images that it breaks, without
            those that are broken without attack; nan if there is none.
        optimality: AttackBench's local optimality against the smallest norms, in [0, 1]; see
            `segrobust.metrics.local_optimality`.
    """

    attack: str
    digest: str
    num_images: int
    num_missed: int
    ratio: float
    optimality: float


@dataclass(frozen=True, kw_only=True)
class SmallestNormSummary(NormSummary):
    """Per image the smallest norm that any minimal-norm attack of one norm finds, over the images on which all ran.

    It depends on the set of attacks: compare it only between runs with the same ones.

    Attributes:
        found_by: one entry per attack.
    """

    found_by: tuple[FoundBy, ...]

    @property
    def label(self) -> str:
        """For people."""
        return f"smallest of {len(self.found_by)} attacks"

    @property
    def digests(self) -> tuple[str, ...]:
        """Of the attacks behind the numbers."""
        return tuple(entry.digest for entry in self.found_by)


NormLine = SmallestNormSummary | MinimalNormSummary


@dataclass(frozen=True, kw_only=True)
class FixedBudgetSummary:
    """One fixed-budget attack: scores by radius, and the cost of one call at one radius."""

    attack: str
    digest: str
    norm_name: NormName
    scores: tuple[Scores, ...]
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """Per image the worst of several fixed-budget attacks of one norm; see `segrobust.evaluation.numbers.worst_case`.

    The choice per image that minimises mIoU^D gives `iou` and the metrics with `worst_case="miou"`; the choice that
    minimises aAcc gives the others.
    """

    norm_name: NormName
    attacks: tuple[str, ...]
    scores: tuple[Scores, ...]


@dataclass(frozen=True, kw_only=True)
class AnyAttack:
    """Images that any attack of one norm breaks within radii, minimal-norm attacks and fixed budgets together.

    Attributes:
        norm_name: the norm.
        attacks: the attacks.
        num_images: images that were attacked.
        eps: radii.
        asr: share of the images that are broken within each.
        bound: which kind of bound these numbers are.
    """

    norm_name: NormName
    attacks: tuple[str, ...]
    num_images: int
    eps: tuple[float, ...]
    asr: tuple[float, ...]
    bound: str = BOUND_ANY


@dataclass(frozen=True, kw_only=True)
class FlaggedImage:
    """An image that is left out of all statistics, and the reason."""

    sample_id: int
    sample_name: str
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All numbers of an evaluation.

    Attributes:
        num_images: images with a clean record, flagged ones left out.
        clean: scores without attack; None if there is no clean record.
        minimal_norm: one entry per minimal-norm attack, in the order of the records.
        smallest_norm: one entry per norm in which at least two minimal-norm attacks ran on the same images, l_inf
            first.
        fixed_budget: one entry per fixed-budget attack.
        worst_case: one entry per norm in which at least two fixed-budget attacks ran.
        any_attack: one entry per norm.
        flagged: images left out.
        resampling: what the intervals resample: recordings if there are enough of them, else images.
        asr_only: whether only success rates were wanted: `fixed_budget` and `worst_case` are empty then.
        schema: version of this format.
    """

    num_images: int
    clean: Scores | None
    minimal_norm: tuple[MinimalNormSummary, ...]
    smallest_norm: tuple[SmallestNormSummary, ...]
    fixed_budget: tuple[FixedBudgetSummary, ...]
    worst_case: tuple[WorstCase, ...]
    any_attack: tuple[AnyAttack, ...]
    flagged: tuple[FlaggedImage, ...]
    resampling: Resampling
    asr_only: bool = False
    schema: int = SUMMARY_SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries and lists, for JSON: numbers in their units, which `units` names by key."""
        return {**in_units(asdict(self)), "units": dict(UNITS)}
