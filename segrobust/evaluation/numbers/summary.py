"""All numbers of an evaluation, and what each is a bound of."""

from dataclasses import asdict, dataclass
from typing import Final, Literal

from segrobust.functional.norms import NormName
from segrobust.metrics import MinimalNormStatistics

SUMMARY_SCHEMA: Final = 2

Resampling = Literal["image", "sequence"]

BOUND_NORM: Final = "upper bound on the minimal norm of each image; the success rate at eps is a lower bound"
BOUND_FIXED: Final = "upper bound on what is left under the strongest attack within eps"
BOUND_WORST: Final = "upper bound on what is left within eps when the worst attack is chosen for each image"
BOUND_BY_PRODUCT: Final = "weak upper bound: a minimal-norm perturbation projected into the ball, not aimed at eps"
BOUND_CLEAN: Final = "exact: no attack"
BOUND_ANY: Final = "lower bound on the share of images that can be broken within eps: broken by any of the attacks"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where 95 % of the bootstrap replicates lie; nan where images or recordings are too few to tell.

    The images are resampled, not the attack: an interval tells how much the choice of images matters.
    """

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class WorstImages:
    """Means over the share `q` of images that score lowest, of mIoU and of accuracy, each by its own order.

    Source: mIoU^(I^q), Wang et al., "Revisiting evaluation metrics for semantic segmentation", arXiv 2310.19252.
    """

    q: float
    miou_image: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class ObjectRecall:
    """Objects of one size: how many, the share of them with at least half their pixels right, the share of pixels."""

    size: str
    num_objects: int
    found: float
    pixels: float


@dataclass(frozen=True, kw_only=True)
class SuccessAt:
    """Share of images in which at least `apsr` of the valid pixels are broken."""

    apsr: float
    asr: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a network scores over images at one radius; shares in [0, 1].

    Attributes:
        eps: radius, image units; 0 for clean images.
        num_images: images behind these numbers.
        miou: mIoU^D, over the whole set.
        miou_image: mIoU^I, mean over images.
        accuracy: aAcc.
        mean_class_accuracy: mAcc.
        mean_apsr: mean over images of the share of broken pixels.
        mean_clean_apsr: the same for the same images without attack.
        asr: share of images that meet the criterion of success.
        asr_by_apsr: the same for other shares of broken pixels.
        mean_class_apsr: class-balanced APSR: mean over images of the mean over their classes of the share of wrong
            pixels.
        worst_images: means over the images that score lowest.
        boundary_accuracy: share of right pixels near borders between classes; nan where no record tells.
        interior_accuracy: share of right pixels elsewhere.
        objects: recall of small, medium and large objects; empty where no record tells.
        miou_band: of `miou`.
        accuracy_band: of `accuracy`.
        iou: per class; nan for classes absent from the ground truth.
        bound: what these numbers are a bound of.
    """

    eps: float
    num_images: int
    miou: float
    miou_image: float
    accuracy: float
    mean_class_accuracy: float
    mean_apsr: float
    mean_clean_apsr: float
    asr: float
    asr_by_apsr: tuple[SuccessAt, ...]
    mean_class_apsr: float
    worst_images: tuple[WorstImages, ...]
    boundary_accuracy: float
    interior_accuracy: float
    objects: tuple[ObjectRecall, ...]
    miou_band: Interval
    accuracy_band: Interval
    iou: tuple[float, ...]
    bound: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Means over images of what one call of an attack took: passes and seconds."""

    num_forwards: float
    num_backwards: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class NormSummary:
    """Minimal norms over images, of one attack or the smallest of several.

    Attributes:
        norm_name: the norm.
        norms: statistics of the norms; failures are counted as inf.
        median_band: of the median.
        asr_bands: of the success rates at the radii of `norms`.
        median_capped: median of min(norm, cap).
        mean_apsr: mean share of broken pixels at the perturbations found, failures included.
        mean_clean_apsr: the same without attack.
        cost: of one call; of several attacks together, of one call of each.
        bound: what the norms are a bound of.
    """

    norm_name: NormName
    norms: MinimalNormStatistics
    median_band: Interval
    asr_bands: tuple[Interval, ...]
    median_capped: float
    mean_apsr: float
    mean_clean_apsr: float
    cost: Cost
    bound: str = BOUND_NORM


@dataclass(frozen=True, kw_only=True)
class MinimalNormSummary(NormSummary):
    """One minimal-norm attack.

    Attributes:
        attack: name of the job.
        digest: of the attack's repr.
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
        digest: of the attack's repr.
        num_images: images of which it finds the smallest norm; of equal norms each attack counts, a failure does not.
        num_missed: images that it fails on and another attack breaks.
        ratio: of its norms to the smallest, at least 1: the geometric mean over the images that it breaks, those that
            are broken without attack left out; nan where there is none.
    """

    attack: str
    digest: str
    num_images: int
    num_missed: int
    ratio: float


@dataclass(frozen=True, kw_only=True)
class SmallestNormSummary(NormSummary):
    """Per image the smallest norm that any minimal-norm attack of one norm finds, over the images that all were run on.

    It depends on the attacks: only numbers of the same ones can be compared.

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

    The choice that is worst for `miou` and `iou` is another one than that for the other scores.
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
        num_images: images that were attacked at all.
        eps: radii.
        asr: share of the images that are broken within each.
        bound: what these numbers are a bound of.
    """

    norm_name: NormName
    attacks: tuple[str, ...]
    num_images: int
    eps: tuple[float, ...]
    asr: tuple[float, ...]
    bound: str = BOUND_ANY


@dataclass(frozen=True, kw_only=True)
class FlaggedImage:
    """An image that is left out of all statistics, and why."""

    sample_id: int
    sample_name: str
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All numbers of an evaluation.

    Attributes:
        num_images: images with a clean record, flagged ones left out.
        clean: scores without attack; None where nothing was recorded.
        minimal_norm: one entry per minimal-norm attack, in the order of the records.
        smallest_norm: one entry per norm in which at least two minimal-norm attacks ran on the same images, l_inf
            first.
        fixed_budget: one entry per fixed-budget attack.
        worst_case: one entry per norm in which at least two fixed-budget attacks ran.
        any_attack: one entry per norm.
        flagged: images left out.
        resampling: what the intervals resample: images, or recordings where there are enough of them.
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

    def to_dict(self) -> dict[str, object]:
        """Nested dictionaries and lists, for JSON."""
        return asdict(self)
