"""All numbers of an evaluation, and what each is a bound of."""

from dataclasses import asdict, dataclass
from typing import Final

from segrobust.functional.norms import NormName
from segrobust.metrics import MinimalNormStatistics

SUMMARY_SCHEMA: Final = 1

BOUND_NORM: Final = "upper bound on the minimal norm of each image; the success rate at eps is a lower bound"
BOUND_FIXED: Final = "upper bound on what is left under the strongest attack within eps"
BOUND_WORST: Final = "upper bound on what is left within eps when the worst attack is chosen for each image"
BOUND_BY_PRODUCT: Final = "weak upper bound: a minimal-norm perturbation projected into the ball, not aimed at eps"
BOUND_CLEAN: Final = "exact: no attack"


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
    iou: tuple[float, ...]
    bound: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Means over images of what one call of an attack took: passes and seconds."""

    num_forwards: float
    num_backwards: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MinimalNormSummary:
    """One minimal-norm attack.

    Attributes:
        attack: name of the job.
        digest: of the attack's repr.
        norm_name: its norm.
        norms: statistics of the norms; failures are counted as inf.
        median_capped: median of min(norm, cap).
        mean_apsr: mean share of broken pixels at the perturbations found, failures included.
        mean_clean_apsr: the same without attack.
        cost: of one call.
        by_products: scores of the perturbations projected into balls.
        bound: what the norms are a bound of.
    """

    attack: str
    digest: str
    norm_name: NormName
    norms: MinimalNormStatistics
    median_capped: float
    mean_apsr: float
    mean_clean_apsr: float
    cost: Cost
    by_products: tuple[Scores, ...]
    bound: str = BOUND_NORM


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
        fixed_budget: one entry per fixed-budget attack.
        worst_case: one entry per norm in which at least two fixed-budget attacks ran.
        flagged: images left out.
        schema: version of this format.
    """

    num_images: int
    clean: Scores | None
    minimal_norm: tuple[MinimalNormSummary, ...]
    fixed_budget: tuple[FixedBudgetSummary, ...]
    worst_case: tuple[WorstCase, ...]
    flagged: tuple[FlaggedImage, ...]
    schema: int = SUMMARY_SCHEMA

    def to_dict(self) -> dict[str, object]:
        """Nested dictionaries and lists, for JSON."""
        return asdict(self)
