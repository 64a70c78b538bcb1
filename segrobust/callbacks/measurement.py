"""The summary of one evaluation as numbers for loggers and checkpoints."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from segrobust.callbacks.log_keys import BY_PRODUCT, CLEAN_SUBSET, at_radius
from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS, Metric, Place, in_place, written
from segrobust.evaluation.numbers.smallest_norm import smallest_norms
from segrobust.evaluation.numbers.summary import MinimalNormSummary, NormLine, Numbers, Summary
from segrobust.evaluation.run.records import Record
from segrobust.untrusted.fields import list_of, mapping_of, read_fields, text, whole
from segrobust.untrusted.printable import shortened


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
    def from_state(cls, state: object) -> Self:
        """The inverse of `to_state`.

        Raises:
            ValueError: a state that no measurement gives; a checkpoint may come from somebody else.
        """
        if not isinstance(state, Mapping):
            raise ValueError(f"a measurement has fields, got {shortened(state)}")
        fields = read_fields({"failed_checks": [], "norms": {}, **state}, _READERS)  # older checkpoints lack these
        values = {key.replace("@", "_at_"): value for key, value in fields["values"].items()}
        return cls(**{**fields, "values": values})


def _read_value(value: object) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"must be a number, got {shortened(value)}")
    return value  # type: ignore[return-value]


def _read_norm(value: object) -> float:
    if not _read_value(value) >= 0:
        raise ValueError(f"must be at least 0, got {shortened(value)}")
    return value  # type: ignore[return-value]


_READERS: Final = {
    **dict.fromkeys(("epoch", "step", "num_images"), whole()),
    "values": mapping_of(_read_value),
    "failed_checks": list_of(text()),
    "norms": mapping_of(list_of(_read_norm)),
}


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
