"""Keys of logged numbers: `val/pgd/miou_at_4` is the mIoU^D under the attack `pgd` at 4/255.

The numbers themselves come from `segrobust.callbacks.measurement.log_values`; docs/numbers.md lists the keys. They
consist of letters, digits, `_`, `-`, `.` and `/` only: MLflow refuses other characters, and Lightning's logger for it
drops them.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS, Place, in_place
from segrobust.evaluation.plan import STANDARD_EPS, Job, Plan
from segrobust.functional.norms import NormName, norm_order

FAILED_CHECKS: Final = "failed_checks"
BY_PRODUCT: Final = "by_product_"
CLEAN_SUBSET: Final = "robust_subset/clean_"

_PATTERN: Final = re.compile(
    rf"[^/]+/((?P<name>[^/]+)/)?(?P<source>[^/]+)/(?P<kind>clean_|{BY_PRODUCT})?(?P<metric>[^/]+?)(_at_(?P<radius>[0-9.]+))?"
)
_HIGHER_IS_BETTER: Final = {
    FAILED_CHECKS: False,
    **{metric.log_name: metric.higher_is_better for metric in (*METRICS, *NORM_METRICS)},
}


@dataclass(frozen=True, kw_only=True)
class LogKey:
    """The parts of a key.

    Attributes:
        name: of the `RobustnessEvaluation`; empty for none.
        source: name of the attack, or `robust_subset`, `clean`, `smallest_<norm>`, `worst_<norm>`, `any_<norm>`.
        kind: `"clean_"`, `"by_product_"` or `""`.
        metric: log name of the metric.
        radius: in 1/255; empty for none.
    """

    name: str
    source: str
    kind: str
    metric: str
    radius: str

    @classmethod
    def parse(cls, key: str) -> Self:
        """The parts of a key that this module makes.

        Raises:
            ValueError: no metric is logged under such a key.
        """
        found = _PATTERN.fullmatch(key)
        if found is None or found["metric"] not in _HIGHER_IS_BETTER:
            raise ValueError(
                f"no metric is logged as {key!r}; keys are such as 'val/pgd/miou_at_4', with the metrics "
                f"{', '.join(_HIGHER_IS_BETTER)}"
            )
        return cls(
            name=found["name"] or "",
            source=found["source"],
            kind=found["kind"] or "",
            metric=found["metric"],
            radius=found["radius"] or "",
        )


def higher_is_better(key: str) -> bool:
    """Whether a larger number under this log key means a more robust network.

    Raises:
        ValueError: no metric is logged under this key.
    """
    return _HIGHER_IS_BETTER[LogKey.parse(key).metric]


def at_radius(name: str, eps: float) -> str:
    """Name of a number at a radius, in 1/255: `("miou", 8 / 255) -> "miou_at_8"`."""
    radius = float(f"{255 * eps:.4g}")
    return f"{name}_at_{np.format_float_positional(radius, trim='-')}"


def log_keys(plan: Plan, prefix: str) -> tuple[str, ...]:
    """Keys that `segrobust.callbacks.measurement.log_values` gives for a plan.

    Raises:
        ValueError: an attack has a reserved name.
    """
    names = [f"{CLEAN_SUBSET}{metric.log_name}" for metric in in_place(METRICS, "log clean")]
    for job in plan.jobs:
        if job.attack.minimal_norm:
            names += _norm_names(plan, job.name, job.attack.norm)
            names += _radius_names(f"{job.name}/{BY_PRODUCT}", job.radii, "log by-product")
        else:
            names += _radius_names(f"{job.name}/", job.radii, "log attack")
    for norm_name, _ in _rivals(plan, minimal_norm=True):
        names += _norm_names(plan, f"smallest_{norm_name}", norm_name)
    for norm_name, rivals in _rivals(plan):
        names += _radius_names(f"worst_{norm_name}/", _union(rivals), "log attack")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two results would be logged as {twice[0]!r}; rename the attack")
    return tuple(f"{prefix}/{name}" for name in names)


def default_monitor(plan: Plan, prefix: str = "val") -> str:
    """Default key for the selection of checkpoints.

    The worst-case mIoU at the middle radius if several fixed-budget attacks share a norm, else that of the first
    fixed-budget attack, else the capped mean of the smallest norms if several minimal-norm attacks share a norm, else
    that of the first attack.
    """
    rivals = _rivals(plan)
    if rivals:
        return f"{prefix}/worst_{rivals[0][0]}/{at_radius('miou', _middle(_union(rivals[0][1])))}"
    fixed = [job for job in plan.jobs if not job.attack.minimal_norm]
    if fixed:
        return f"{prefix}/{fixed[0].name}/{at_radius('miou', _middle(fixed[0].radii))}"
    minimal = _rivals(plan, minimal_norm=True)
    name = f"smallest_{minimal[0][0]}" if minimal else plan.jobs[0].name
    return f"{prefix}/{name}/mean_norm_capped"


def unknown_monitor(key: str, known: Sequence[str]) -> str:
    """The error message for a monitor that is not measured."""
    renamed = key.replace("@", "_at_")
    if renamed in known:
        return f"monitor={key!r} is now spelled {renamed!r}, because some loggers drop the '@'"
    lines = "\n  ".join(known)
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0)
    meant = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return f"monitor={key!r} is not measured by any RobustnessEvaluation{meant} These are:\n  {lines}"


def _radius_names(start: str, radii: Iterable[float], place: Place) -> list[str]:
    return [f"{start}{at_radius(metric.log_name, eps)}" for eps in radii for metric in in_place(METRICS, place)]


def _norm_names(plan: Plan, name: str, norm_name: NormName) -> list[str]:
    numbers = [metric.log_name for metric in in_place(NORM_METRICS, "log attack")]
    return [
        f"{name}/{number}" for number in (*numbers, *(at_radius("asr", eps) for eps in _asr_radii(plan, norm_name)))
    ]


def _rivals(plan: Plan, *, minimal_norm: bool = False) -> list[tuple[NormName, list[Job]]]:
    """Fixed-budget attacks, or minimal-norm ones, that share a norm with another one, by norm."""
    by_norm: dict[NormName, list[Job]] = {}
    for job in plan.jobs:
        if job.attack.minimal_norm == minimal_norm:
            by_norm.setdefault(job.attack.norm, []).append(job)
    return [
        (norm_name, by_norm[norm_name]) for norm_name in sorted(by_norm, key=norm_order) if len(by_norm[norm_name]) > 1
    ]


def _asr_radii(plan: Plan, norm_name: NormName) -> tuple[float, ...]:
    """Radii at which the ASR of a minimal-norm attack is computed, as in `segrobust.evaluation.numbers.summarize`."""
    radii = _union([job for job in plan.jobs if job.attack.norm == norm_name])
    return radii or (STANDARD_EPS if norm_name == "linf" else ())


def _union(jobs: Iterable[Job]) -> tuple[float, ...]:
    return tuple(sorted({eps for job in jobs for eps in job.radii}))


def _middle(radii: tuple[float, ...]) -> float:
    return sorted(radii)[len(radii) // 2]
