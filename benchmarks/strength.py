"""Fails if an attack became weaker than its stored figure, on networks where the best result is known exactly.

Networks are those of `benchmarks.oracle`. Of a minimal-norm attack, the figure is the geometric mean of its norms over
the exact minimal norms; of a fixed-budget attack, the share of the pixels that the radius can break, and that it leaves
unbroken, at the median distance of the pixels. Both are better when smaller, so that a figure may fall but not rise by
more than `TOLERANCE`. Nothing is timed; passes are bounded by the attacks' own settings, which are part of the names.

    PYTHONPATH=tests python -m benchmarks.strength                  # compares, and fails with a table
    PYTHONPATH=tests python -m benchmarks.strength --update true    # stores what is measured, after a change on purpose
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from jsonargparse import auto_cli
from oracles import LinearCase, linear_case

from segrobust import attacks as suite
from segrobust.attacks import Attack
from segrobust.functional.norms import norm

STORED: Final = Path(__file__).parent / "results" / "strength.json"
TOLERANCE: Final = 0.02
"""Of a ratio, relative; of a share, absolute. Other kernels change the last bit of a pass, which many steps amplify."""

MINIMAL: Final[dict[str, Attack]] = {
    "AlmaProx linf, 150 steps": suite.AlmaProx(num_steps=150),
    "AlmaProx l2, 150 steps": suite.AlmaProx(num_steps=150, norm="l2"),
    "LagrangianFMN linf, 50 passes": suite.LagrangianFMN(num_passes=50),
    "LagrangianFMN l2, 50 passes": suite.LagrangianFMN(num_passes=50, norm="l2"),
    "FMN linf, 150 steps": suite.FMN(num_steps=150),
    "DDN l2, 150 steps": suite.DDN(num_steps=150),
    "PDPGD linf, 150 steps": suite.PDPGD(num_steps=150),
    "search over PGD linf, 13 x 20 steps": suite.MinimalNormSearch(
        attack=suite.PGD(num_steps=20, loss=suite.Masked(loss=suite.Margin()))
    ),
}
FIXED: Final[dict[str, Attack]] = {
    "PGD, 20 steps": suite.PGD(num_steps=20),
    "SegPGD, 20 steps": suite.SegPGD(num_steps=20),
    "CosPGD, 20 steps": suite.CosPGD(num_steps=20),
    "APGD, 20 steps": suite.APGD(num_steps=20),
    "PAdam, 20 steps": suite.PAdam(num_steps=20),
}
SEEDS: Final = (0, 1)
BATCH: Final = 4


def norm_ratio(attack: Attack) -> float:
    """Geometric mean of an attack's norms over the exact ones; inf where it fails on an image.

    Raises:
        RuntimeError: a norm below the exact one: the attack, or the oracle, is wrong.
    """
    ratios = torch.cat([_ratios(attack, linear_case(seed, batch_size=BATCH)) for seed in SEEDS])
    if ratios.min() < 1 - 1e-4:
        raise RuntimeError(f"{attack!r} reports {ratios.min().item():.5f} of the smallest norm that exists")
    return ratios.log().mean().exp().item()


def _ratios(attack: Attack, case: LinearCase) -> torch.Tensor:
    result = attack(case.network, case.images, case.labels)
    found = norm(result.adv - case.images, attack.norm).where(result.success, math.inf)
    return found / case.minimal_norms(attack.norm)


def unbroken_share(attack: Attack) -> float:
    """Of the pixels that lie within the radius, the share that an attack leaves unbroken."""
    left = within = 0
    for seed in SEEDS:
        case = linear_case(seed, batch_size=BATCH)
        distances = case.distances(attack.norm).flatten(1)
        eps = distances.median(1).values
        result = attack(case.network, case.images, case.labels, eps=eps)
        breakable = distances < eps[:, None]
        left += int((breakable & (result.prediction == case.labels).flatten(1)).sum())
        within += int(breakable.sum())
    return left / within


def measure() -> dict[str, float]:
    """The figure of every attack, rounded to what is stored."""
    torch.set_num_threads(1)
    found = {name: norm_ratio(attack) for name, attack in MINIMAL.items()}
    found |= {name: unbroken_share(attack) for name, attack in FIXED.items()}
    return {name: round(value, 4) for name, value in found.items()}


def regressions(found: Mapping[str, float], stored: Mapping[str, float]) -> list[str]:
    """A line for each attack that is weaker than stored, or is in one of the two alone."""
    lines = [f"{name}: only {where}; store it with --update true" for name, where in _unpaired(found, stored)]
    for name in found.keys() & stored.keys():
        allowed = stored[name] * (1 + TOLERANCE) if name in MINIMAL else stored[name] + TOLERANCE
        if not found[name] <= allowed:
            lines.append(f"{name}: {found[name]:.4f}, stored {stored[name]:.4f}, allowed {allowed:.4f}")
    return sorted(lines)


def _unpaired(found: Mapping[str, float], stored: Mapping[str, float]) -> list[tuple[str, str]]:
    return [
        *((name, "measured") for name in found.keys() - stored.keys()),
        *((name, "stored") for name in stored.keys() - found.keys()),
    ]


def main(update: bool = False) -> None:
    """Compares strengths with the stored figures, or stores them.

    Args:
        update: store what is measured.
    """
    found = measure()
    if update:
        STORED.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    stored: dict[str, float] = json.loads(STORED.read_text(encoding="utf-8"))
    print("| attack | found | stored |\n|---|---:|---:|")
    for name, value in found.items():
        print(f"| {name} | {value:.4f} | {stored.get(name, math.nan):.4f} |")
    weaker = regressions(found, stored)
    if weaker:
        sys.exit("weaker than stored:\n  " + "\n  ".join(weaker))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
