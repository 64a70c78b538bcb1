"""Checks that run attacks again: whether they have converged, and whether a black-box attack is stronger."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import nn

from segrobust.attacks import Attack, Square
from segrobust.evaluation.checks.check import Check, Status, graded, make_check, unmeasured, worst_of
from segrobust.evaluation.checks.record_checks import check_black_box, is_black_box
from segrobust.evaluation.dataset import SampleSource
from segrobust.evaluation.engine.runner import run
from segrobust.evaluation.engine.work import StridedWork
from segrobust.evaluation.forward import device_of
from segrobust.evaluation.plan import Job, Plan, Radius
from segrobust.evaluation.run.records import NO_VALID_PIXEL, Record, merge_records
from segrobust.metrics import geometric_mean_ratio

NUM_QUERIES: Final = 500
"""Number of queries of the black-box attack per image."""

_NORM_FALLS: Final = (0.05, 0.2)
"""Fall of the geometric mean of the norms with twice the steps: warn, fail."""

_NEWLY_BROKEN: Final = 0.2
"""Share of images broken only with twice the steps: fail; any image warns."""

_APSR_RISES: Final = (0.02, 0.1)
"""Rise of the mean share of broken pixels with twice the steps: warn, fail."""

_NOTHING_BROKEN: Final = "no image is broken, as before"

AttackAgain = Callable[[Job], list[Record]]
"""Runs a job on the images of the check, and returns its records."""


def check_attacks(
    network: nn.Module,
    dataset: SampleSource,
    plan: Plan,
    sample_ids: Sequence[int],
    records: Iterable[Record],
    *,
    ignore_index: int = 255,
    seed: int = 0,
) -> tuple[Check, ...]:
    """Attacks a few images again, with more steps and without gradients, and compares with their records.

    Costs per image: twice the passes of every attack of the plan, at one radius each, and 500 forwards. The state of
    the global random generators is restored.

    Args:
        network: see `run`.
        dataset: see `SampleSource`.
        plan: what was evaluated.
        sample_ids: positions of the images to attack again.
        records: results of the plan, of these images or more.
        ignore_index: label of void pixels.
        seed: that of the evaluation.

    Returns:
        "steps doubled" for every attack that takes steps, and "black box" where the plan has a fixed-budget l_inf
        attack with gradients.

    Raises:
        ValueError: no sample, or what `run` raises.
    """
    if not sample_ids:
        raise ValueError("checks need at least one image, got sample_ids=(); two are enough for most")
    wanted = {*sample_ids}
    known = [r for r in merge_records(records) if r.sample_id in wanted and NO_VALID_PIXEL not in r.flags]

    def attack_again(job: Job) -> list[Record]:
        again = Plan(jobs=(job,))
        made = run(network, dataset, again, work=StridedWork(sorted(wanted)), seed=seed, ignore_index=ignore_index)
        return [r for r in made if r.digest == job.digest]

    device = device_of(network)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return (
            *(check for job in plan.jobs for check in _check_steps(job, known, attack_again)),
            *_check_black_box(plan, known, attack_again),
        )


def double_steps(attack: Attack) -> Attack | None:
    """The attack, or the attack inside a wrapper, with twice the steps; None if it takes no steps."""
    return None if attack.step_budget is None else attack.with_step_budget(2 * attack.step_budget)


def _check_steps(job: Job, known: Sequence[Record], attack_again: AttackAgain) -> Iterator[Check]:
    """Whether twice the steps help: by the norm, or by broken pixels at the radius that breaks about half."""
    doubled = double_steps(job.attack)
    if doubled is None:
        return
    name, digests = "steps doubled", (job.digest,)
    found = {r.key: r for r in known if r.digest == job.digest and r.kind != "by-product"}
    if not found:
        yield unmeasured(
            name, f"{job.name} has no records of these images", fix="run the evaluation first", attacks=digests
        )
        return
    radius: Radius = "min" if job.attack.minimal_norm else _middle_radius(found.values())
    eps = () if radius == "min" or job.attack.own_radii else (radius,)
    again = attack_again(Job(name=job.name, attack=doubled, eps=eps, targets=job.targets))
    keys = [(r.sample_id, job.digest, r.eps) for r in again]
    pairs = [(found[key], r) for key, r in zip(keys, again, strict=True) if key in found and r.eps == radius]
    status, detail = (_compare_norms if job.attack.minimal_norm else _compare_shares)(pairs)
    yield make_check(
        name,
        status,
        f"{job.name}: with twice the steps, on {len(pairs)} images, {detail}",
        meaning="the attack has not converged, so it overestimates the robustness of the network",
        fix="use another attack or loss, and see the check unbounded attack: more steps do not help this one"
        if detail == _NOTHING_BROKEN
        else f"give {job.name} more steps, until twice as many change nothing",
        attacks=digests,
    )


def _middle_radius(records: Iterable[Record]) -> float:
    """The radius at which about half of the pixels are broken, where an improvement shows most."""
    shares: dict[float, list[float]] = defaultdict(list)
    for record in records:
        if isinstance(record.eps, float):
            shares[record.eps].append(record.apsr)
    return min(shares, key=lambda eps: abs(sum(shares[eps]) / len(shares[eps]) - 0.5))


def _compare_norms(pairs: Sequence[tuple[Record, Record]]) -> tuple[Status, str]:
    """Norms before and after; images that are broken only with twice the steps are counted apart."""
    before, after = (torch.tensor([pair[i].norm for pair in pairs], dtype=torch.float64) for i in (0, 1))
    compared = geometric_mean_ratio(after, before)
    if compared.num_neither == len(pairs):
        return "warn", _NOTHING_BROKEN
    fall = 1 - compared.ratio if compared.num_both else 0.0
    by_norm = graded(fall, warn=_NORM_FALLS[0], fail=_NORM_FALLS[1])
    by_success = graded(compared.num_only_a / len(pairs), warn=0, fail=_NEWLY_BROKEN)
    return worst_of((by_norm, by_success)), (
        f"the geometric mean of the norms falls by {fall:.1%}, and {compared.num_only_a} images are newly broken"
    )


def _compare_shares(pairs: Sequence[tuple[Record, Record]]) -> tuple[Status, str]:
    """Mean shares of broken pixels before and after."""
    before, after = (sum(pair[i].apsr for pair in pairs) / len(pairs) for i in (0, 1))
    status = graded(after - before, warn=_APSR_RISES[0], fail=_APSR_RISES[1])
    return status, f"the share of broken pixels goes from {before:.1%} to {after:.1%} at eps = {pairs[0][1].eps:.4g}"


def _check_black_box(plan: Plan, known: Sequence[Record], attack_again: AttackAgain) -> Iterator[Check]:
    """Compares Square at the largest l_inf radius of the fixed-budget attacks with the best records within it."""
    white = [r for r in known if r.kind != "clean" and not _of_square(plan, r)]
    radii = [
        eps
        for job in plan.jobs
        if not job.attack.minimal_norm and job.attack.norm == "linf" and not is_black_box(repr(job.attack))
        for eps in job.radii
    ]
    if not radii:
        return
    attack = Square(num_queries=NUM_QUERIES, criterion=plan.criterion)
    black = attack_again(Job(name=f"square_{NUM_QUERIES}", attack=attack, eps=(max(radii),), targets=plan.targets))
    for check in check_black_box(black, white):
        yield replace(check, name="black box", attacks=())


def _of_square(plan: Plan, record: Record) -> bool:
    return any(job.digest == record.digest and is_black_box(repr(job.attack)) for job in plan.jobs)
