"""Which parts of ALMA-prox earn their passes: calibrated ALMA-prox with one part changed at a time.

Eight CamVid validation images of the first half at 192x256, one batch, float32, 100 passes, of which 25 are the warm
start. A second call continues; results are stored as they come.

    SEGROBUST_CAMVID=... python -m benchmarks.minimal_norm.ablation
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import torch
from jsonargparse import auto_cli

from benchmarks.camvid import NetworkName, reference_network
from benchmarks.stored import ResultFile, norm_ratio
from segrobust.attacks import AlmaProx, Attack, CalibratedAlmaProx, LagrangianFMN, WarmStarted, calibrated_alma_prox
from segrobust.data import CamVid

RESULTS = Path(__file__).parents[1] / "results" / "minimal_norm_ablation.jsonl"
IMAGES = (2, 9, 16, 23, 30, 37, 44, 48)
NUM_PASSES = 100
COMPLETE = "complete"


@dataclass(frozen=True, kw_only=True)
class Changed(CalibratedAlmaProx):
    """Calibrated ALMA-prox with another Lagrangian.

    Args:
        settings: fields of `AlmaProx` that differ.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lagrangian(self) -> AlmaProx:
        """With the settings."""
        return replace(super().lagrangian, **self.settings)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change.

    Args:
        settings: fields of the Lagrangian.
        constants: constants of the attack's module.
        warm: passes of the warm start.
        instead: an attack in the place of the calibrated one.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    warm: int = NUM_PASSES // 4
    instead: Attack | None = None

    def attack(self) -> Attack:
        """What is run, within the patch of the constants."""
        steps = NUM_PASSES - self.warm - 1
        changed = self.instead or Changed(num_steps=steps, settings=self.settings)
        return WarmStarted(first=LagrangianFMN(num_passes=self.warm), attack=changed) if self.warm else changed


STEPS = NUM_PASSES - NUM_PASSES // 4 - 1
VARIANTS = {
    COMPLETE: Variant(),
    "no warm start": Variant(warm=0),
    "AlmaProx from the warm start": Variant(instead=AlmaProx(num_steps=STEPS)),
    "AlmaProx from the warm start, step 1e-2": Variant(instead=AlmaProx(num_steps=STEPS, step_size=1e-2)),
    "weight of the norm stays as calibrated": Variant(constants={"BALANCE_RATE": 0.0}),
    "constraints scaled instead of it, as published": Variant(
        constants={"BALANCE_RATE": 0.0}, settings={"scale_rate": 0.02}
    ),
    "penalty parameters from 0.01, as published": Variant(settings={"initial_penalty": 0.01}),
    "penalty parameters never grow": Variant(settings={"penalty_growth": 1.0}),
    "multipliers not averaged": Variant(settings={"multiplier_smoothing": 0.0}),
    "no pixel given up": Variant(settings={"discard": "never"}),
    "hardest pixels given up from the start": Variant(settings={"discard": "constant"}),
    "published derivative of the penalty": Variant(settings={"penalty_derivative": "published"}),
    "full gradient of the DLR": Variant(settings={"full_denominator_gradient": True}),
    "no inertia, as published": Variant(constants={"INERTIA": 0.0}),
    "metric averaged with 0.8, as published": Variant(constants={"RMS_SMOOTHING": 0.8}),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """Norms of all images, null where the attack failed."""

    network: str
    variant: str
    norms: tuple[float | None, ...]


STORED = ResultFile(path=RESULTS, kind=Result, key=("network", "variant"))


def measure(network_name: str, variant: str) -> Result:
    """One variant on all images."""
    data = CamVid(split="val", size=(192, 256))
    samples = [data[i] for i in IMAGES]
    images, labels = (torch.stack([sample[key] for sample in samples]) for key in ("image", "mask"))
    constants = VARIANTS[variant].constants
    with patch.multiple(calibrated_alma_prox, **constants) if constants else nullcontext():
        norms = VARIANTS[variant].attack()(reference_network(network_name), images, labels).norm.tolist()
    return Result(
        network=network_name, variant=variant, norms=tuple(norm if math.isfinite(norm) else None for norm in norms)
    )


def norms_of(result: Result) -> dict[int, float]:
    """By image, inf where the attack failed."""
    return {i: math.inf if norm is None else norm for i, norm in zip(IMAGES, result.norms, strict=True)}


def _readable(result: Result) -> list[float]:
    """Norms in x/255."""
    return [round(255 * norm, 2) for norm in norms_of(result).values()]


def table(results: Sequence[Result]) -> str:
    """Broken images, and norms over those of the complete attack where both break, for each network with results."""
    measured = {result.network for result in results}
    networks = [network for network in get_args(NetworkName) if network in measured]
    lines = [
        "| change | " + " | ".join(f"{network}: broken | norm / complete" for network in networks) + " |",
        "|---|" + "---|---|" * len(networks),
    ]
    found = {(result.network, result.variant): norms_of(result) for result in results}
    for variant in VARIANTS:
        cells = []
        for network in networks:
            mine, complete = found.get((network, variant)), found.get((network, COMPLETE))
            if mine is None or complete is None:
                cells.append("- | -")
                continue
            compared = norm_ratio(mine, complete)
            broken = sum(math.isfinite(norm) for norm in mine.values())
            ratio = f"{compared.ratio:.3f}" if compared is not None and compared.num_both else "-"
            cells.append(f"{broken}/{len(mine)} | {ratio}")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(networks: tuple[NetworkName, ...] = get_args(NetworkName), threads: int = 1) -> None:
    """Measures what is missing and prints the table.

    Args:
        networks: reference networks.
        threads: threads of torch.
    """
    torch.set_num_threads(threads)
    STORED.complete(
        ((network, variant) for network in networks for variant in VARIANTS),
        measure,
        lambda result: f"{result.network}, {result.variant}: {_readable(result)}",
    )
    print(table(STORED.read()))


if __name__ == "__main__":
    auto_cli(main)
