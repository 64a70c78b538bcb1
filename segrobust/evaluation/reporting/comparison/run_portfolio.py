"""An ensemble chosen from the records of several runs on one network: what it needs, its table and its settings."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Final

import yaml

from segrobust.evaluation.numbers.portfolio import Candidate, Portfolio, PortfolioMetric, choose_portfolio
from segrobust.evaluation.reporting.comparison.compare import run_labels
from segrobust.evaluation.reporting.format import percent, radius_text
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.run.attack_settings import attack_settings
from segrobust.evaluation.run.records import Record
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.functional.norms import NormName, norm_order
from segrobust.untrusted.printable import visible

_SAME: Final = {
    "weights": "weights of the network",
    "preprocessing": "normalisation and resizing around the network",
    "criterion": "criterion of success",
    "ignore_index": "label of void pixels",
    "precision": "precision",
}
_SAME_RADIUS: Final = 1e-9
_LABELS: Final = {"aacc": "aAcc", "miou": "mIoU^D"}


@dataclass(frozen=True, kw_only=True)
class RunPortfolio:
    """An ensemble of attacks from runs.

    Attributes:
        portfolio: its attacks and numbers.
        eps: the radius.
        norm_name: its norm.
        identities: of all attacks of the runs, by digest.
    """

    portfolio: Portfolio
    eps: float
    norm_name: NormName
    identities: dict[str, str]

    def rows(self) -> list[dict[str, Any]]:
        """One row per attack of the ensemble, shares in percent; the last is all attacks together."""
        found = [
            {
                "attack": step.candidate.name,
                "own_passes": step.candidate.passes,
                "passes": step.passes,
                "left": 100 * step.left,
                "held_out_passes": step.held_out_passes,
                "held_out": 100 * step.held_out,
            }
            for step in self.portfolio.steps
        ]
        whole = {"attack": "all attacks", "passes": self.portfolio.every_passes, "left": 100 * self.portfolio.every}
        return [*found, {**whole, "own_passes": None, "held_out_passes": None, "held_out": None}]

    def __str__(self) -> str:
        """The table."""
        portfolio, label = self.portfolio, _LABELS[self.portfolio.metric]
        radius, clean = radius_text(self.eps, self.norm_name), percent(self.portfolio.clean, 2)
        head = ("attack", "passes", "together", f"{label}, %", "other images, %", "at passes")
        lines = [
            (
                step.candidate.name,
                f"{step.candidate.passes:.0f}",
                f"{step.passes:.0f}",
                percent(step.left, 2),
                percent(step.held_out, 2),
                "-" if isnan(step.held_out_passes) else f"{step.held_out_passes:.0f}",
            )
            for step in portfolio.steps
        ]
        every = ("all attacks", "", f"{portfolio.every_passes:.0f}", percent(portfolio.every, 2), "", "")
        return "\n".join(
            (
                f"{label} at {radius} on {portfolio.num_images} images, {clean} % without attack. "
                "A pass is one forward and one backward.",
                *_aligned([head, *lines, every]),
                "other images: each image judged by an ensemble that was chosen without it, and the passes of those.",
            )
        )

    def settings(self) -> str:
        """YAML for `evaluate --config`; an attack that its text does not give again is a comment."""
        attacks, lost = {}, []
        for step in self.portfolio.steps:
            try:
                attacks[step.candidate.name] = attack_settings(
                    self.identities[step.candidate.digest], step.candidate.digest
                )
            except ValueError as error:
                lost.append(f"# {step.candidate.name} is missing: {visible(str(error))}\n")
        content = {"attacks": attacks, "eps": [self.eps]}
        return "".join(lost) + yaml.safe_dump(content, sort_keys=False)


def run_portfolio(
    run_dirs: Sequence[Path], *, metric: PortfolioMetric, eps: float | None = None, members: int = 8
) -> RunPortfolio:
    """Chooses an ensemble from the fixed-budget attacks of runs on one network, over the images that all have.

    Args:
        run_dirs: directories of runs.
        metric: what it lowers.
        eps: radius, image units; None for the largest at which each run has an attack.
        members: most attacks.

    Raises:
        ValueError: a directory without a run; runs of different networks or settings, without a common image, or
            without an attack at the radius.
    """
    runs = [read_run(RunDirectory(path)) for path in run_dirs]
    labels = run_labels(run_dirs)
    _require_same(runs, labels)
    eps, norm_name = _radius(runs, eps)
    candidates, clean = _candidates(runs, eps, norm_name)
    identities = {entry.digest: entry.attack for run in runs for entry in run.manifest.attacks}
    return RunPortfolio(
        portfolio=choose_portfolio(candidates, clean, metric, members),
        eps=eps,
        norm_name=norm_name,
        identities=identities,
    )


def _require_same(runs: Sequence[RunFiles], labels: Sequence[str]) -> None:
    first = runs[0].manifest
    for run, label in zip(runs[1:], labels[1:], strict=True):
        for field, meaning in _SAME.items():
            there, now = getattr(first, field), getattr(run.manifest, field)
            if there != now:
                raise ValueError(
                    f"an ensemble is chosen on one network and one problem; {meaning}: {visible(str(there))} in "
                    f"{labels[0]}, {visible(str(now))} in {label}"
                )
    for run, label in zip(runs, labels, strict=True):
        if run.manifest.asr_only:
            raise ValueError(f"{label} skipped images that were broken already (asr_only), so that gains are unknown")


def _radius(runs: Sequence[RunFiles], eps: float | None) -> tuple[float, NormName]:
    """The radius and its norm."""
    found = [
        {
            (record.eps, record.norm_name or "linf")
            for record in run.records
            if record.kind == "fixed-budget" and isinstance(record.eps, float)
        }
        for run in runs
    ]
    every = set.union(*found)
    choices = (
        set.intersection(*found) if eps is None else {pair for pair in every if abs(pair[0] - eps) <= _SAME_RADIUS}
    )
    if not choices:
        raise ValueError(
            f"no fixed-budget attack at {'a radius that all runs have' if eps is None else f'eps={eps:.6g}'}; the runs "
            f"have {', '.join(radius_text(*pair) for pair in sorted(every)) or 'none'}"
        )
    return min(choices, key=lambda pair: (norm_order(pair[1]), -pair[0]))


def _candidates(runs: Sequence[RunFiles], eps: float, norm_name: NormName) -> tuple[list[Candidate], dict[str, Record]]:
    """The attacks at the radius and the clean records, over the images that all of them have."""
    found: dict[tuple[str, int], tuple[str, dict[str, Record]]] = {}
    clean: dict[str, Record] = {}
    for record in (record for run in runs for record in run.records if not record.flags):
        image = record.sample_digest or f"sample {record.sample_id}"
        if record.kind == "clean":
            clean.setdefault(image, record)
        elif record.kind == "fixed-budget" and (record.eps, record.norm_name) == (eps, norm_name):
            _, own = found.setdefault((record.digest, record.seed), (record.attack, {}))
            own.setdefault(image, record)
    images = {*clean}.intersection(*(own for _, own in found.values()))
    if not images:
        raise ValueError(f"the attacks at {radius_text(eps, norm_name)} share no image; give runs on the same images")
    twice = Counter(name for name, _ in found.values())
    candidates = [
        Candidate(
            name=name if twice[name] == 1 else f"{name}_{number}",
            digest=digest,
            records={image: own[image] for image in images},
        )
        for number, ((digest, _), (name, own)) in enumerate(found.items(), start=1)
    ]
    return candidates, {image: clean[image] for image in images}


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        numbers = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((f"{first:{widths[0]}}", *numbers)).rstrip()
