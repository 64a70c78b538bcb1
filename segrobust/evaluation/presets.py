"""Ready-made plans. Each has a version, and never changes under its name."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final, Literal

from segrobust.attacks import (
    APGD,
    SEA,
    AlmaProx,
    Attack,
    Balanced,
    CalibratedAlmaProx,
    LagrangianFMN,
    Masked,
    MinimalNormSearch,
    RobustnessCurve,
    SoftCount,
    WarmStarted,
)
from segrobust.evaluation.plan import STANDARD_EPS, Plan, plan_attacks

PresetName = Literal[
    "validation", "quick", "standard", "thorough", "validation-v1", "quick-v1", "standard-v1", "thorough-v1"
]
"""Of a version, or without one for the newest."""


def preset(name: PresetName) -> Plan:
    """A ready-made plan; all radii are `STANDARD_EPS`, for by-products too.

    | name            | minimal norm                                    | fixed budget                  | passes |
    |-----------------|-------------------------------------------------|-------------------------------|--------|
    | `validation-v1` | Lagrangian FMN 50                               | curve 64                      |    233 |
    | `quick-v1`      | Lagrangian FMN 50                               | curve 120                     |    345 |
    | `standard-v1`   | Lagrangian FMN 100; ALMA-prox 500               | curve 180; balanced curve 120 |   1811 |
    | `thorough-v1`   | Lagrangian FMN 300, calibrated ALMA-prox 225    | SEA; curve 900                |  13320 |
    |                 | from 75 of it; ALMA-prox 1000; bisected APGD 40 |                               |        |

    The number after an attack is its number of passes, or of steps for ALMA-prox and APGD; a curve divides its passes
    among the radii. The last column is the largest number of forwards and backwards per image.

    `validation` is cheap enough for a callback during training, `quick` finds mistakes. Use `standard` for numbers that
    are compared with others; its ALMA-prox is the published baseline, which fails on robust networks where Lagrangian
    FMN does not, and its second curve weighs classes equally, for mIoU. Use `thorough` to claim robustness: it adds
    SEA, the reporting standard, whose worst case is reported per image and for the data set, and minimal-norm attacks
    with many more steps, which reveal attacks that have not converged.

    A version never changes, so that published numbers and monitors of checkpoints stay comparable. A name without
    version stands for the newest; reports name the version.

    Raises:
        ValueError: another name.
    """
    return plan_attacks(preset_attacks(name), STANDARD_EPS)


def preset_attacks(name: PresetName) -> dict[str, Attack]:
    """The attacks of a preset by name, without radii.

    Raises:
        ValueError: another name.
    """
    newest = {version.partition("-")[0]: each for version, each in _ATTACKS.items()}  # later versions come later
    make = {**newest, **_ATTACKS}.get(name)
    if make is None:
        raise ValueError(
            f"preset must be one of {', '.join(map(repr, newest))}, or a version such as 'standard-v1', got {name!r}"
        )
    return make()


def preset_of(attacks: Iterable[tuple[str, Iterable[float]]]) -> str | None:
    """The version that has exactly these attacks, None if there is none.

    Args:
        attacks: digest and radii of each.
    """
    return _versions().get(frozenset((digest, tuple(sorted(eps))) for digest, eps in attacks))


@cache
def _versions() -> dict[frozenset[tuple[str, tuple[float, ...]]], str]:
    plans = {version: plan_attacks(make(), STANDARD_EPS) for version, make in _ATTACKS.items()}
    return {
        frozenset((job.digest, tuple(sorted(job.radii))) for job in plan.jobs): name for name, plan in plans.items()
    }


def _validation_v1() -> dict[str, Attack]:
    return {"lagrangian_fmn_50": LagrangianFMN(num_passes=50), "curve_64": RobustnessCurve(num_passes=64)}


def _quick_v1() -> dict[str, Attack]:
    return {"lagrangian_fmn_50": LagrangianFMN(num_passes=50), "curve_120": RobustnessCurve(num_passes=120)}


def _standard_v1() -> dict[str, Attack]:
    return {
        "lagrangian_fmn_100": LagrangianFMN(num_passes=100),
        "alma_prox_500": AlmaProx(num_steps=500),
        "curve_180": RobustnessCurve(num_passes=180),
        "balanced_curve_120": RobustnessCurve(num_passes=120, loss=Balanced(loss=SoftCount())),
    }


def _thorough_v1() -> dict[str, Attack]:
    return {
        "lagrangian_fmn_300": LagrangianFMN(num_passes=300),
        "calibrated_alma_prox_300": WarmStarted(
            first=LagrangianFMN(num_passes=75), attack=CalibratedAlmaProx(num_steps=224)
        ),
        "alma_prox_1000": AlmaProx(num_steps=1000),
        "apgd_40_search": MinimalNormSearch(attack=APGD(num_steps=40, loss=Masked())),
        "curve_900": RobustnessCurve(num_passes=900),
        "sea": SEA(),
    }


_ATTACKS: Final[Mapping[str, Callable[[], dict[str, Attack]]]] = {
    "validation-v1": _validation_v1,
    "quick-v1": _quick_v1,
    "standard-v1": _standard_v1,
    "thorough-v1": _thorough_v1,
}
