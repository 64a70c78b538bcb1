"""From records to numbers: a pure function, so that every number can be recomputed from the files."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from segrobust.evaluation.numbers.bootstrap import Bootstrap
from segrobust.evaluation.numbers.metric_inputs import norms
from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS, mean_of
from segrobust.evaluation.numbers.scores import compute, scores
from segrobust.evaluation.numbers.smallest_norm import found_by, minimal_norm_attacks, smallest_norms
from segrobust.evaluation.numbers.summary import (
    BOUND_BY_PRODUCT,
    BOUND_CLEAN,
    BOUND_FIXED,
    BOUND_WORST,
    AnyAttack,
    Cost,
    FixedBudgetSummary,
    FlaggedImage,
    MinimalNormSummary,
    NormSummary,
    Scores,
    SmallestNormSummary,
    Summary,
    WorstCase,
)
from segrobust.evaluation.numbers.worst_case import within, worst_for_accuracy, worst_for_miou
from segrobust.evaluation.plan import STANDARD_EPS
from segrobust.evaluation.run.records import Kind, Record, merge_records
from segrobust.functional.norms import NormName, norm_order
from segrobust.metrics import asr_at


def summarize(
    records: Iterable[Record], *, sample_ids: Collection[int] | None = None, asr_only: bool = False
) -> Summary:
    """Computes all numbers from records.

    Each number is over the images that have the record it needs, and their number is reported with it: during a run, it
    differs between attacks.

    Args:
        records: in any order; the first of each key counts.
        sample_ids: the samples to count; None for all.
        asr_only: whether attacks skipped images that were already broken: their scores on the others would be biased,
            and are not reported.

    Raises:
        ValueError: records of networks with different numbers of classes.
    """
    chosen = [r for r in merge_records(records) if sample_ids is None or r.sample_id in sample_ids]
    flagged = {
        r.sample_id: FlaggedImage(sample_id=r.sample_id, sample_name=r.sample_name, flags=r.flags)
        for r in chosen
        if r.flags
    }
    counted = [record for record in chosen if record.sample_id not in flagged]
    widths = {len(record.tp) for record in counted}
    if len(widths) > 1:
        raise ValueError(
            f"records of networks with {sorted(widths)} classes; summarise the records of each network separately"
        )
    bootstrap = Bootstrap.of(counted)
    by_attack: dict[tuple[Kind, str], list[Record]] = defaultdict(list)
    for record in counted:
        by_attack[record.kind, record.digest].append(record)
    clean = [record for record in counted if record.kind == "clean"]
    fixed = [group for (kind, _), group in by_attack.items() if kind == "fixed-budget" and not asr_only]
    return Summary(
        num_images=len(clean),
        clean=scores(clean, 0.0, BOUND_CLEAN, bootstrap) if clean else None,
        minimal_norm=tuple(
            _minimal_norm(group, by_attack.get(("by-product", digest), []), counted, bootstrap)
            for (kind, digest), group in by_attack.items()
            if kind == "minimal-norm"
        ),
        smallest_norm=tuple(_smallest_norms(counted, bootstrap)),
        fixed_budget=tuple(_fixed_budget(group, bootstrap) for group in fixed),
        worst_case=tuple(_worst_cases(fixed, bootstrap)),
        any_attack=tuple(_any_attack(counted)),
        flagged=tuple(flagged.values()),
        resampling=bootstrap.resampling,
        asr_only=asr_only,
    )


def _minimal_norm(
    records: list[Record], by_products: list[Record], counted: list[Record], bootstrap: Bootstrap
) -> MinimalNormSummary:
    first = records[0]
    return MinimalNormSummary(
        attack=first.attack,
        digest=first.digest,
        by_products=_by_radius(by_products, BOUND_BY_PRODUCT, bootstrap),
        **vars(_norm_summary(records, _cost(records), counted, bootstrap)),
    )


def _smallest_norms(counted: list[Record], bootstrap: Bootstrap) -> Iterable[SmallestNormSummary]:
    """The smallest norms over the attacks that share a norm."""
    for digests in minimal_norm_attacks(counted).values():
        smallest = smallest_norms(counted, digests)
        if len(digests) < 2 or not smallest:
            continue
        costs = [_cost(smallest_norms(counted, (digest,))) for digest in digests]
        together = Cost(**{name: sum(getattr(cost, name) for cost in costs) for name in vars(costs[0])})
        yield SmallestNormSummary(
            found_by=found_by(counted, smallest, digests),
            **vars(_norm_summary(smallest, together, counted, bootstrap)),
        )


def _norm_summary(records: list[Record], cost: Cost, counted: list[Record], bootstrap: Bootstrap) -> NormSummary:
    """Statistics over one record of each image."""
    norm_name = records[0].norm_name or "linf"
    found, ids, radii = norms(records), [record.sample_id for record in records], _radii(counted, norm_name)
    return NormSummary(
        norm_name=norm_name,
        num_images=len(records),
        values=compute(NORM_METRICS, records)[0],
        intervals={"median": bootstrap.of_median(ids, found.values.tolist())},
        cap=found.cap,
        eps=radii,
        asr_at=asr_at(found.values, radii),
        asr_intervals=tuple(
            bootstrap.of_mean(ids, [float(record.breaks(norm_name, eps)) for record in records]) for eps in radii
        ),
        cost=cost,
    )


def _fixed_budget(records: list[Record], bootstrap: Bootstrap) -> FixedBudgetSummary:
    first = records[0]
    return FixedBudgetSummary(
        attack=first.attack,
        digest=first.digest,
        norm_name=first.norm_name or "linf",
        scores=_by_radius(records, BOUND_FIXED, bootstrap),
        cost=_cost(records),
    )


def _worst_cases(groups: list[list[Record]], bootstrap: Bootstrap) -> Iterable[WorstCase]:
    """Worst cases over the attacks that share a norm."""
    for norm_name in sorted({group[0].norm_name or "linf" for group in groups}, key=norm_order):
        rivals = [group for group in groups if group[0].norm_name == norm_name]
        if len(rivals) < 2:
            continue
        together = [record for group in rivals for record in group]
        yield WorstCase(
            norm_name=norm_name,
            attacks=tuple(group[0].attack for group in rivals),
            scores=tuple(_worst_case(together, eps, bootstrap) for eps in _radii(together, norm_name)),
        )


def _worst_case(records: list[Record], eps: float, bootstrap: Bootstrap) -> Scores:
    """Each metric under the choice that is worst for its goal; the IoU under the choice that is worst for mIoU^D."""
    candidates = within(records, eps)
    chosen = {"accuracy": worst_for_accuracy(candidates), "miou": worst_for_miou(candidates)}
    found = {goal: scores(records, eps, BOUND_WORST, bootstrap) for goal, records in chosen.items()}
    intervals = {m.key: found[m.worst_case].intervals[m.key] for m in METRICS if m.interval is not None}
    values = {metric.key: found[metric.worst_case][metric.key] for metric in METRICS}
    return replace(found["miou"], values=values, intervals=intervals)


def _any_attack(counted: list[Record]) -> Iterable[AnyAttack]:
    """Images broken by any attack, norm by norm."""
    for norm_name in sorted({record.norm_name for record in counted if record.norm_name is not None}, key=norm_order):
        by_image: dict[int, list[Record]] = defaultdict(list)
        for record in counted:
            if record.norm_name == norm_name:
                by_image[record.sample_id].append(record)
        for record in counted:
            if record.kind == "clean" and record.sample_id in by_image:
                by_image[record.sample_id].append(record)
        radii = _radii(counted, norm_name)
        names = dict.fromkeys(
            record.attack for group in by_image.values() for record in group if record.eps is not None
        )
        yield AnyAttack(
            norm_name=norm_name,
            attacks=tuple(names),
            num_images=len(by_image),
            eps=radii,
            asr=tuple(
                mean_of([float(any(r.breaks(norm_name, eps) for r in group)) for group in by_image.values()])
                for eps in radii
            ),
        )


def _by_radius(records: list[Record], bound: str, bootstrap: Bootstrap) -> tuple[Scores, ...]:
    by_eps: dict[float, list[Record]] = defaultdict(list)
    for record in records:
        if isinstance(record.eps, float):
            by_eps[record.eps].append(record)
    return tuple(scores(by_eps[eps], eps, bound, bootstrap) for eps in sorted(by_eps))


def _radii(records: Iterable[Record], norm_name: NormName) -> tuple[float, ...]:
    """The radii that occur in this norm; `STANDARD_EPS` if none does in l_inf."""
    found = {record.eps for record in records if isinstance(record.eps, float) and record.norm_name == norm_name}
    return tuple(sorted(found)) or (STANDARD_EPS if norm_name == "linf" else ())


def _cost(records: Sequence[Record]) -> Cost:
    return Cost(
        num_forwards=mean_of([record.num_forwards for record in records]),
        num_backwards=mean_of([record.num_backwards for record in records]),
        seconds=mean_of([record.seconds for record in records]),
    )
