"""The summary of one evaluation as numbers for loggers and checkpoints."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from segrobust.callbacks.log_keys import BY_PRODUCT, CLEAN_SUBSET, at_radius
from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS, Metric, Place, in_place, written
from segrobust.evaluation.numbers.smallest_norm import smallest_norms
from segrobust.evaluation.numbers.summary import MinimalNormSummary, NormLine, Numbers, Summary
from segrobust.evaluation.run.records import Record


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The result of one evaluation.

    Attributes:
        epoch: of the training, from 0.
        step: optimiser steps that the network had taken.
        num_images: images that count; those without a valid pixel are left out.
        values: numbers by log key.
        failed_checks: names of the checks that failed; if there are any, do not trust the numbers.
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
        values = {key.replace("@", "_at_"): value for key, value in state["values"].items()}  # in older checkpoints
        return cls(
            **{**state, "values": values, "failed_checks": tuple(state.get("failed_checks", ())), "norms": norms}
        )


def log_values(summary: Summary, prefix: str) -> dict[str, float]:
    """Numbers of a summary by log key, all finite; shares in percent, norms in image units, e a radius in 1/255.

    Metrics are those that `segrobust.evaluation.numbers.metrics` has in the places `log ...`; docs/numbers.md lists the
    keys.

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
    named = {f"{CLEAN_SUBSET}{name}": value for name, value in _logged(METRICS, "log clean", summary.clean)}
    for name, entry in _named_norms(summary):
        named |= {f"{name}/{number}": value for number, value in _norm_values(entry)}
    groups = [(fixed.attack, fixed.scores) for fixed in summary.fixed_budget]
    groups += [(f"worst_{worst.norm_name}", worst.scores) for worst in summary.worst_case]
    for attack, at_radii in groups:
        for scores in at_radii:
            logged = _logged(METRICS, "log attack", scores)
            named |= {f"{attack}/{at_radius(name, scores.eps)}": value for name, value in logged}
    return {f"{prefix}/{name}": value for name, value in named.items()}


def sorted_norms(records: Iterable[Record], summary: Summary) -> dict[str, tuple[float, ...]]:
    """Minimal norms in ascending order, of the images that count: of several attacks the smallest, then each's."""
    records = tuple(records)
    return {
        name: tuple(sorted(record.norm for record in smallest_norms(records, entry.digests)))
        for name, entry in _named_norms(summary)
    }


def _logged(metrics: Iterable[Metric[Any]], place: Place, numbers: Numbers) -> Iterator[tuple[str, float]]:
    """Names and values of the metrics that are logged."""
    for metric in in_place(metrics, place):
        yield metric.log_name, written(metric.unit, numbers[metric.key])


def _named_norms(summary: Summary) -> Iterator[tuple[str, NormLine]]:
    """Minimal norms by the name that their keys begin with: the smallest of several attacks first, then each."""
    for smallest in summary.smallest_norm:
        yield f"smallest_{smallest.norm_name}", smallest
    for minimal in summary.minimal_norm:
        yield minimal.attack, minimal


def _norm_values(entry: NormLine) -> Iterator[tuple[str, float]]:
    yield from _logged(NORM_METRICS, "log attack", entry)
    for eps, share in zip(entry.eps, entry.asr_at, strict=True):
        yield at_radius("asr", eps), written("%", share)
    for scores in entry.by_products if isinstance(entry, MinimalNormSummary) else ():
        for name, value in _logged(METRICS, "log by-product", scores):
            yield at_radius(f"{BY_PRODUCT}{name}", scores.eps), value
