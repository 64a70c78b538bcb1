"""The summary of one evaluation as the numbers that loggers and checkpoints see."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from segrobust.evaluation.numbers.smallest_norm import smallest_norms
from segrobust.evaluation.numbers.summary import MinimalNormSummary, NormLine, Scores, Summary
from segrobust.evaluation.plan import STANDARD_EPS, Job, Plan
from segrobust.evaluation.run.records import Record
from segrobust.functional.norms import NormName

FAILED_CHECKS: Final = "failed_checks"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one evaluation gave.

    Attributes:
        epoch: of the training, from 0.
        step: optimiser steps that the network had taken.
        num_images: images that count; those without a valid pixel are left out.
        values: numbers by log key.
        failed_checks: names of the checks that failed: the numbers are not to be trusted.
        norms: minimal norms of the images by attack, in ascending order, image units; inf where the attack failed.
    """

    epoch: int
    step: int
    num_images: int
    values: Mapping[str, float]
    failed_checks: tuple[str, ...] = ()
    norms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def to_state(self) -> dict[str, Any]:
        """Plain Python, so that checkpoints load with `weights_only=True`."""
        return asdict(self) | {
            "values": dict(self.values),
            "failed_checks": list(self.failed_checks),
            "norms": {attack: list(norms) for attack, norms in self.norms.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `to_state`."""
        norms = {attack: tuple(values) for attack, values in state.get("norms", {}).items()}
        return cls(**{**state, "failed_checks": tuple(state.get("failed_checks", ())), "norms": norms})


def log_values(summary: Summary, prefix: str) -> dict[str, float]:
    """Numbers of a summary by log key, all finite; shares in percent, norms in image units, e a radius in 1/255.

    - `<prefix>/robust_subset/clean_miou`, `clean_acc`, `clean_apsr`: the same images before any attack.
    - `<prefix>/<minimal-norm attack>/asr`, `asr@<e>`: images broken at any norm, and within e (exact).
      `/median_norm`, `/mean_norm_capped`: of min(norm, cap), so that they stay finite where the attack failed; see
      `segrobust.evaluation.numbers.summarize.CAPS`. `/by_product_miou@<e>`, `by_product_acc@<e>`,
      `by_product_apsr@<e>`: of the perturbations clipped to e, which flatter the network.
    - `<prefix>/smallest_<norm>/asr`, `asr@<e>`, `median_norm`, `mean_norm_capped`: the same of the smallest norm that
      any of several minimal-norm attacks of that norm finds, per image.
    - `<prefix>/<fixed-budget attack>/miou@<e>` (mIoU^D), `acc@<e>`, `apsr@<e>`, `asr@<e>`.
    - `<prefix>/worst_<norm>/...`: the same of the worst of several fixed-budget attacks of that norm, per image.

    Args:
        summary: of at least one image with a valid pixel.
        prefix: first part of the keys, `"val"` or `"test"`.

    Raises:
        ValueError: no image has a valid pixel.
    """
    if summary.clean is None:
        raise ValueError(
            f"none of the {len(summary.flagged)} images evaluated has a valid pixel: check the masks and ignore_index"
        )
    clean = summary.clean
    values = {"clean_miou": clean.miou, "clean_acc": clean.accuracy, "clean_apsr": clean.mean_apsr}
    named = {f"robust_subset/{name}": 100 * value for name, value in values.items()}
    for name, entry in _named_norms(summary):
        named |= {f"{name}/{number}": value for number, value in _norm_values(entry)}
    groups = [(fixed.attack, fixed.scores) for fixed in summary.fixed_budget]
    groups += [(f"worst_{worst.norm_name}", worst.scores) for worst in summary.worst_case]
    for attack, at_radii in groups:
        for scores in at_radii:
            named |= {f"{attack}/{name}": value for name, value in _radius_values(scores, "")}
            named[f"{attack}/asr@{eps_label(scores.eps)}"] = 100 * scores.asr
    return {f"{prefix}/{name}": value for name, value in named.items()}


def sorted_norms(records: Iterable[Record], summary: Summary) -> dict[str, tuple[float, ...]]:
    """Minimal norms in ascending order, of the images that count: of several attacks the smallest, then each's."""
    records = tuple(records)
    return {
        name: tuple(sorted(record.norm for record in smallest_norms(records, entry.digests)))
        for name, entry in _named_norms(summary)
    }


def log_keys(plan: Plan, prefix: str) -> tuple[str, ...]:
    """Keys that `log_values` gives for a plan.

    Raises:
        ValueError: the name of an attack is one of those that are taken.
    """
    names = [f"robust_subset/{name}" for name in ("clean_miou", "clean_acc", "clean_apsr")]
    for job in plan.jobs:
        if job.attack.minimal_norm:
            names += _norm_names(plan, job.name, job.attack.norm)
            names += _radius_names(f"{job.name}/by_product_", job.radii, ("miou", "acc", "apsr"))
        else:
            names += _radius_names(f"{job.name}/", job.radii, ("miou", "acc", "apsr", "asr"))
    for norm_name, _ in _rivals(plan, minimal_norm=True):
        names += _norm_names(plan, f"smallest_{norm_name}", norm_name)
    for norm_name, rivals in _rivals(plan):
        names += _radius_names(f"worst_{norm_name}/", _union(rivals), ("miou", "acc", "apsr", "asr"))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two results would be logged as {twice[0]!r}; give the attack of that name another one")
    return tuple(f"{prefix}/{name}" for name in names)


def default_monitor(plan: Plan) -> str:
    """Key by which checkpoints are chosen where none is named.

    The worst-case mIoU at the middle radius if several fixed-budget attacks share a norm, else that of the first
    fixed-budget attack, else the capped mean of the smallest norms if several minimal-norm attacks share a norm, else
    that of the first attack.
    """
    rivals = _rivals(plan)
    if rivals:
        return f"val/worst_{rivals[0][0]}/miou@{eps_label(_middle(_union(rivals[0][1])))}"
    fixed = [job for job in plan.jobs if not job.attack.minimal_norm]
    if fixed:
        return f"val/{fixed[0].name}/miou@{eps_label(_middle(fixed[0].radii))}"
    minimal = _rivals(plan, minimal_norm=True)
    name = f"smallest_{minimal[0][0]}" if minimal else plan.jobs[0].name
    return f"val/{name}/mean_norm_capped"


def higher_is_better(key: str) -> bool:
    """Whether a larger number under this log key means a more robust network."""
    return not key.rsplit("/", 1)[-1].split("@")[0].endswith(("asr", "apsr", FAILED_CHECKS))


def eps_label(eps: float) -> str:
    """A radius as log keys name it, in 1/255: `8 / 255 -> "8"`."""
    return f"{255 * eps:.4g}"


def _named_norms(summary: Summary) -> Iterator[tuple[str, NormLine]]:
    """Minimal norms by the name that their keys begin with: the smallest of several attacks first, then each."""
    for smallest in summary.smallest_norm:
        yield f"smallest_{smallest.norm_name}", smallest
    for minimal in summary.minimal_norm:
        yield minimal.attack, minimal


def _norm_values(minimal: NormLine) -> Iterator[tuple[str, float]]:
    yield "asr", 100 * minimal.norms.asr
    yield "median_norm", minimal.median_capped
    yield "mean_norm_capped", minimal.norms.mean_capped
    for eps, share in zip(minimal.norms.eps, minimal.norms.asr_at, strict=True):
        yield f"asr@{eps_label(eps)}", 100 * share
    for scores in minimal.by_products if isinstance(minimal, MinimalNormSummary) else ():
        yield from _radius_values(scores, "by_product_")


def _radius_values(scores: Scores, kind: str) -> Iterator[tuple[str, float]]:
    for name, share in (("miou", scores.miou), ("acc", scores.accuracy), ("apsr", scores.mean_apsr)):
        yield f"{kind}{name}@{eps_label(scores.eps)}", 100 * share


def _radius_names(start: str, radii: Iterable[float], names: tuple[str, ...]) -> list[str]:
    return [f"{start}{name}@{eps_label(eps)}" for eps in radii for name in names]


def _norm_names(plan: Plan, name: str, norm_name: NormName) -> list[str]:
    radii = [f"asr@{eps_label(eps)}" for eps in _asr_radii(plan, norm_name)]
    return [f"{name}/{number}" for number in ("asr", "median_norm", "mean_norm_capped", *radii)]


def _rivals(plan: Plan, *, minimal_norm: bool = False) -> list[tuple[NormName, list[Job]]]:
    """Fixed-budget attacks, or minimal-norm ones, that share a norm with another one, by norm."""
    by_norm: dict[NormName, list[Job]] = {}
    for job in plan.jobs:
        if job.attack.minimal_norm == minimal_norm:
            by_norm.setdefault(job.attack.norm, []).append(job)
    return [
        (norm_name, jobs)
        for norm_name, jobs in sorted(by_norm.items(), key=lambda pair: (pair[0] != "linf", pair[0]))
        if len(jobs) > 1
    ]


def _asr_radii(plan: Plan, norm_name: NormName) -> tuple[float, ...]:
    """Radii at which the success of a minimal-norm attack is told, as `segrobust.evaluation.numbers.summarize` does."""
    radii = _union([job for job in plan.jobs if job.attack.norm == norm_name])
    return radii or (STANDARD_EPS if norm_name == "linf" else ())


def _union(jobs: Iterable[Job]) -> tuple[float, ...]:
    return tuple(sorted({eps for job in jobs for eps in job.radii}))


def _middle(radii: tuple[float, ...]) -> float:
    return sorted(radii)[len(radii) // 2]
