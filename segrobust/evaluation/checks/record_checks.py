"""Checks of results: pure functions of the records, which can be recomputed from the files."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import isfinite, isinf
from statistics import geometric_mean
from typing import Final

from segrobust.evaluation.checks.check import Check, graded, make_check, unmeasured
from segrobust.evaluation.run.records import CLEAN, NO_VALID_PIXEL, Record, merge_records

_FALLS: Final = (0.01, 0.05)
"""Fall of the mean APSR, or rise of the accuracy, from a radius to a larger one: warn, fail."""

_BLACK_BOX_GAIN: Final = 0.005
"""Mean APSR of a black-box attack above that of white-box attacks: fail."""

_CONTRADICTED: Final = 0.05
"""Share of images that a fixed-budget attack breaks below their minimal norm: warn."""

_CENSORED: Final = 0.1
"""Share of images on which a minimal-norm attack fails while no other attack of its norm succeeds: warn."""

_APART: Final = 2.0
"""Factor between the norms that two minimal-norm attacks find for an image: warn if most images reach it."""

Group = list[Record]


def check_records(records: Iterable[Record], attacks: Mapping[str, str]) -> tuple[Check, ...]:
    """Looks for results that contradict each other.

    Images without a valid pixel are left out. A check is only made if its records exist: "clean" needs clean records,
    "square" a Square attack, "agreement" a minimal-norm and a fixed-budget attack of one norm, "minimal norms" two
    minimal-norm attacks of one norm.

    Args:
        records: in any order; the first of each key counts.
        attacks: repr of every attack of the records by its digest.

    Returns:
        "clean" and "square" once; for every attack "monotone", or "censored" and "agreement"; "minimal norms" for every
        two minimal-norm attacks of one norm.

    Raises:
        ValueError: an attack of the records that `attacks` lacks.
    """
    counted = [record for record in merge_records(records) if NO_VALID_PIXEL not in record.flags]
    missing = sorted({r.attack for r in counted if r.digest != CLEAN and r.digest not in attacks})
    if missing:
        raise ValueError(f"attacks must hold the repr of every attack by its digest; it lacks {', '.join(missing)}")
    of_kinds = ([r for r in counted if r.kind == kind] for kind in ("fixed-budget", "minimal-norm"))
    fixed, minimal = (_grouped(group, lambda record: record.digest) for group in of_kinds)
    black = [r for r in counted if r.kind == "fixed-budget" and is_black_box(attacks[r.digest])]
    white = [r for r in counted if r.kind != "clean" and not is_black_box(attacks[r.digest])]
    return (
        *check_clean([record for record in counted if record.kind == "clean"]),
        *(check for group in fixed for check in check_monotone(group, aimed=" towards " in attacks[group[0].digest])),
        *check_black_box(black, white),
        *(check_censored(group, counted, attacks[group[0].digest]) for group in minimal),
        *(check for group in minimal for check in check_agreement(group, counted)),
        *(check for a, b in combinations(minimal, 2) for check in check_minimal_norms(a, b)),
    )


def is_black_box(attack: str) -> bool:
    """Whether the repr is that of Square, bare or inside a wrapper."""
    return attack.startswith("Square(") or "attack=Square(" in attack


def _grouped(records: Iterable[Record], key: Callable[[Record], object]) -> list[Group]:
    groups: dict[object, Group] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return list(groups.values())


def check_clean(records: Sequence[Record]) -> Iterator[Check]:
    """Whether the network is better than predicting the most common class: warns if it is not."""
    if not records:
        return
    truth = [sum(counts) for counts in zip(*(_truth(record) for record in records), strict=True)]
    accuracy, common = _accuracy(records), max(truth) / sum(truth)
    constant = accuracy <= common and sum(count > 0 for count in truth) > 1
    yield make_check(
        "clean",
        "warn" if constant else "ok",
        f"{accuracy:.1%} of the clean pixels are correct; predicting the most common class gives {common:.1%}",
        meaning="a constant prediction is robust but useless: robustness means nothing without a good clean score",
        fix="if the check wiring names another input or order of classes, use that; else check that the weights are "
        "those of the trained network, and train longer",
    )


def check_monotone(records: Group, *, aimed: bool = False) -> Iterator[Check]:
    """Whether a fixed-budget attack breaks no fewer pixels at larger radii: warns above 1 point, fails above 5.

    Every ball contains all smaller ones. Each radius is compared with all smaller ones and with the clean images, over
    the images that have both.

    Args:
        records: of one attack.
        aimed: whether the attack has targets: then only the APSR counts, because accuracy may rise.
    """
    radii = sorted({record.eps for record in records if isinstance(record.eps, float)})
    by_eps = {eps: {r.sample_id: r for r in records if r.eps == eps} for eps in radii}
    falls = [(_fall(by_eps[low], by_eps[high], aimed), low, high) for low in radii for high in radii if low < high]
    falls += [(_fall_from_clean(by_eps[eps]), 0.0, eps) for eps in radii]
    fall, low, high = max(falls)
    yield make_check(
        "monotone",
        graded(fall, warn=_FALLS[0], fail=_FALLS[1]),
        f"{records[0].attack}: from no attack to {_radius(radii[-1])} in {len(radii)} "
        f"{'steps' if len(radii) > 1 else 'step'}, the "
        + ("share of broken pixels falls" if aimed else "share of broken pixels falls, or the accuracy rises,")
        + f" by at most {max(fall, 0):.1%}"
        + (f", from {_radius(low)} to {_radius(high)}" if fall > 0 else ""),
        meaning="a larger ball contains every smaller one: an attack that breaks less there is too weak, so the "
        "network looks more robust than it is",
        fix=f"give {records[0].attack} more and smaller steps; if it takes one step, report it "
        f"at radii below {_radius(high)} only",
        attacks=(records[0].digest,),
    )


def _fall(low: Mapping[int, Record], high: Mapping[int, Record], aimed: bool) -> float:
    """How much better the network is at the larger radius, over common images: by APSR or by accuracy."""
    common = low.keys() & high.keys()
    if not common:
        return 0.0
    before, after = [low[i] for i in common], [high[i] for i in common]
    by_apsr = _mean_apsr(before) - _mean_apsr(after)
    return by_apsr if aimed else max(by_apsr, _accuracy(after) - _accuracy(before))


def _fall_from_clean(records: Mapping[int, Record]) -> float:
    return _mean([r.clean_apsr for r in records.values()]) - _mean_apsr(records.values())


def check_black_box(black: Sequence[Record], white: Sequence[Record]) -> Iterator[Check]:
    """Whether a black-box attack breaks more than the best white-box one: fails above half a point of mean APSR.

    Args:
        black: records of fixed-budget attacks that use logits alone.
        white: records of all other attacks; the best result within the radius counts for each image.
    """
    gains = []
    for group in _grouped(black, lambda record: (record.digest, record.eps)):
        best = [_most_broken(white, record) for record in group]
        pairs = [(record, apsr) for record, apsr in zip(group, best, strict=True) if apsr is not None]
        if pairs:
            ours, theirs = _mean([record.apsr for record, _ in pairs]), _mean([apsr for _, apsr in pairs])
            gains.append((ours - theirs, ours, theirs, group[0], len(pairs)))
    name, digests = "square", tuple(sorted({record.digest for record in black}))
    if not gains:
        if black:
            yield unmeasured(
                name, "no attack with gradients has results within its radii", fix="add one, such as PGD or APGD"
            )
        return
    gain, ours, theirs, record, num_images = max(gains, key=lambda found: found[0])
    yield make_check(
        name,
        "fail" if gain > _BLACK_BOX_GAIN else "ok",
        f"at {_radius(record.eps)}, {record.attack} breaks {ours:.1%} of the pixels of {num_images} images; the best "
        f"gradient attack on each image breaks {theirs:.1%}",
        meaning="an attack that uses logits alone should not beat those that use the gradient: the gradient is masked, "
        "and gradient attacks overestimate the robustness",
        fix="give the gradient attacks more steps and another loss (loss=Margin() or DLR() of segrobust.attacks); if "
        f"{record.attack} still breaks more, find what masks the gradient (see the checks of the network), and until "
        "then report the black-box numbers",
        attacks=() if gain > _BLACK_BOX_GAIN else digests,
    )


def _most_broken(records: Iterable[Record], like: Record) -> float | None:
    """Largest APSR on the same image within the same ball; None if nothing was measured."""
    found = [
        r.apsr
        for r in records
        if (r.sample_id, r.norm_name) == (like.sample_id, like.norm_name) and _reach(r) <= _reach(like)
    ]
    return max(found, default=None)


def check_censored(records: Group, others: Iterable[Record], attack: str = "") -> Check:
    """Whether a minimal-norm attack fails: warns where another attack breaks the image, or on a tenth of all.

    Args:
        records: of one attack.
        others: records of all attacks.
        attack: repr of the attack, so that the advice names another one.
    """
    failed = {record.sample_id for record in records if isinf(record.norm)}
    rivals = [r for r in others if _is_rival(r, records[0]) and r.sample_id in failed]
    broken = {r.sample_id for r in rivals if r.success}
    share, name = len(failed) / len(records), records[0].attack
    detail = f"{name} fails on {len(failed)} of {len(records)} images ({share:.1%})"
    if failed:
        detail += f"; {len({r.digest for r in rivals})} other attacks of its norm break {len(broken)} of these"
    another = "AlmaProx" if "LagrangianFMN(" in attack else "LagrangianFMN"
    if broken:
        fix = f"report the smallest norm of each image (smallest of several attacks), not {name} alone, and give "
        fix += f"{name} more steps"
    else:
        fix = f"give {name} twice the steps, and add another minimal-norm attack, such as segrobust.attacks.{another}. "
        fix += "If both fail on the same images, see the check unbounded attack, and report them as not broken"
    return make_check(
        "censored",
        "warn" if broken or share > _CENSORED else "ok",
        detail,
        meaning="a failure counts as an infinite norm, but it may be due to a weak attack as well as to a robust "
        "network",
        fix=fix,
        attacks=(records[0].digest,),
    )


def check_agreement(records: Group, others: Iterable[Record]) -> Iterator[Check]:
    """Whether fixed-budget attacks break images below their minimal norm: warns above a twentieth of the images.

    Only images on which a fixed-budget attack of the same norm ran count.
    """
    smallest: dict[int, float] = defaultdict(lambda: float("inf"))
    for r in others:
        if r.kind == "fixed-budget" and _is_rival(r, records[0]):
            smallest[r.sample_id] = min(smallest[r.sample_id], _reach(r) if r.success else float("inf"))
    compared = [record for record in records if record.sample_id in smallest]
    if not compared:
        return
    below = [record for record in compared if smallest[record.sample_id] < record.norm]
    share = len(below) / len(compared)
    ratios = [r.norm / smallest[r.sample_id] for r in below if isfinite(r.norm)]
    yield make_check(
        "agreement",
        "warn" if share > _CONTRADICTED else "ok",
        f"{records[0].attack}: fixed-budget attacks break {len(below)} of {len(compared)} images ({share:.1%}) at a "
        "smaller norm" + (f"; its norms are up to {max(ratios):.2f} times as large" if ratios else ""),
        meaning="the norms of this attack are loose upper bounds on these images: the network is less robust than "
        "they suggest",
        fix=f"give {records[0].attack} more steps; until then report, for each image, the smaller of its norm and of "
        "the radius at which a fixed-budget attack breaks it",
        attacks=(records[0].digest,),
    )


def check_minimal_norms(a: Group, b: Group) -> Iterator[Check]:
    """Whether two minimal-norm attacks find norms of the same size: warns on a factor of 2 on most images.

    Only images on which both ran count. If only one attack breaks an image, the factor is infinite.
    """
    by_image = [{record.sample_id: record.norm for record in group} for group in (a, b)]
    pairs = [(by_image[0][i], by_image[1][i]) for i in by_image[0] if i in by_image[1]]
    if a[0].norm_name != b[0].norm_name or not pairs:
        return
    apart = [pair for pair in pairs if max(pair) > min(pair) and max(pair) >= _APART * min(pair)]
    better = [(sum(x < y for x, y in apart), sum(x < y for x, y in pairs))]
    better += [(sum(y < x for x, y in apart), sum(y < x for x, y in pairs))]
    loose, tight = (a[0], b[0]) if better[0] <= better[1] else (b[0], a[0])
    broken = [(x, y) if loose is a[0] else (y, x) for x, y in pairs if isfinite(max(x, y)) and min(x, y) > 0]
    ratio = (
        f"the norms of {loose.attack} are {geometric_mean([x / y for x, y in broken]):.2f} times those of "
        f"{tight.attack} (geometric mean over {len(broken)} images that both break)"
        if broken
        else "no image is broken by both with a norm above 0"
    )
    yield make_check(
        "minimal norms",
        "warn" if 2 * len(apart) > len(pairs) else "ok",
        f"{loose.attack} and {tight.attack} differ by a factor of {_APART:g} or more on {len(apart)} of {len(pairs)} "
        f"images; {ratio}; {sum(isinf(max(pair)) for pair in apart)} images are broken by one of them alone",
        meaning="both are upper bounds on the same number: if they differ this much, at least one attack has not "
        "converged, and its norms alone overstate the robustness",
        fix=f"report the smallest norm of each image (smallest of several attacks), not {loose.attack} alone; give "
        f"{loose.attack} more steps, and run {tight.attack} with twice the steps to see whether its norms still "
        "decrease",
        attacks=(loose.digest,),
    )


def _is_rival(record: Record, like: Record) -> bool:
    """Whether a record is of another attack of the same norm."""
    return record.digest not in (CLEAN, like.digest) and record.norm_name == like.norm_name


def _reach(record: Record) -> float:
    """The smallest ball known to contain the perturbation: its radius or the minimal norm; inf for a failure."""
    return record.eps if isinstance(record.eps, float) else record.norm


def _radius(eps: object) -> str:
    return f"{eps * 255:.3g}/255" if isinstance(eps, float) and eps <= 1 else f"eps = {eps}"


def _truth(record: Record) -> list[int]:
    """Valid pixels of every class."""
    return [tp + fn for tp, fn in zip(record.tp, record.fn, strict=True)]


def _accuracy(records: Collection[Record]) -> float:
    return sum(sum(record.tp) for record in records) / sum(record.num_valid for record in records)


def _mean_apsr(records: Collection[Record]) -> float:
    return _mean([record.apsr for record in records])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
