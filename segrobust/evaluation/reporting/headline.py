"""The main results of an evaluation as sentences that can be read without the tables."""

import math
from dataclasses import dataclass

from segrobust.evaluation.numbers.summary import AnyAttack, NormLine, Scores, SmallestNormSummary, Summary
from segrobust.evaluation.reporting.format import norm_source, norm_text, percent, radius_text
from segrobust.evaluation.reporting.score_lines import Strongest, strongest, strongest_norms
from segrobust.evaluation.reporting.sensor_units import with_units
from segrobust.functional.norms import NormName
from segrobust.value_range import ValueRange

NORM_LABELS: dict[NormName, str] = {"linf": "l_inf", "l2": "l_2", "l1": "l_1"}


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A result, and which kind of bound it is."""

    text: str
    bound: str


def headline(summary: Summary, value_range: ValueRange | None = None) -> tuple[Sentence, ...]:
    """The main results, the most important one first; with a range, lengths in the sensor's units too."""
    if summary.clean is None:
        return (Sentence(text="No image with a valid pixel has been evaluated", bound=""),)
    scores = (
        _score_under(entry, summary.clean, value_range) for entry in strongest(summary)[:1] if not summary.asr_only
    )
    rates = (_broken_by_any(entry, value_range) for entry in summary.any_attack if summary.asr_only and entry.eps)
    found = (*scores, *rates, *(_median_norm(entry, value_range) for entry in strongest_norms(summary)))
    return found or (
        Sentence(text=f"Clean mIoU is {percent(summary.clean.miou)} %; no attack has finished", bound="exact"),
    )


def _score_under(found: Strongest, clean: Scores, value_range: ValueRange | None) -> Sentence:
    scores, line = found.headline
    by = f"the {line.label}" if line.scope == "worst case" else line.attack
    if line.scope == "by-product":
        by = f"{line.attack}, clipped"
    change = "lowers" if scores.miou < clean.miou else "takes"
    return Sentence(
        text=f"A perturbation of at most {_ball(scores.eps, line.norm_name, value_range)} {change} mIoU from "
        f"{percent(clean.miou)} % to {percent(scores.miou)} % ({by})",
        bound="an upper bound: a stronger attack can only lower the mIoU further",
    )


def _broken_by_any(entry: AnyAttack, value_range: ValueRange | None) -> Sentence:
    index = min(range(len(entry.eps)), key=lambda i: (abs(entry.eps[i] - 4 / 255) > 1e-6, -entry.eps[i]))
    count = f"{len(entry.attacks)} attacks" if len(entry.attacks) > 1 else entry.attacks[0]
    return Sentence(
        text=f"{percent(entry.asr[index])} % of {entry.num_images} images are broken by {count} within "
        f"{_ball(entry.eps[index], entry.norm_name, value_range)}",
        bound="a lower bound: a stronger attack can only break more",
    )


def _median_norm(entry: NormLine, value_range: ValueRange | None) -> Sentence:
    if math.isinf(entry["median"]):
        text = f"{percent(1 - entry['asr'])} % of {entry.num_images} images resist {_all_of(entry)}"
        return Sentence(text=text, bound="an upper bound: a stronger attack can only break more")
    low, high = (norm_text(v, entry.norm_name) for v in (entry["lower_quartile"], entry["upper_quartile"]))
    median = with_units(norm_text, entry["median"], entry.norm_name, value_range)
    return Sentence(
        text=f"Half of the {entry.num_images} images are broken by a perturbation of {NORM_LABELS[entry.norm_name]} "
        f"norm {median} or less (IQR {low} to {high}, {norm_source(entry)})",
        bound="an upper bound on the smallest perturbations: a stronger attack can only find smaller ones",
    )


def _all_of(entry: NormLine) -> str:
    """The attack, or all of them: an image resists several attacks only if it resists each."""
    if not isinstance(entry, SmallestNormSummary):
        return entry.label
    return f"each of {len(entry.found_by)} attacks ({', '.join(found.attack for found in entry.found_by)})"


def _ball(eps: float, norm_name: NormName, value_range: ValueRange | None) -> str:
    return (
        with_units(radius_text, eps, norm_name, value_range)
        if norm_name == "linf"
        else f"{NORM_LABELS[norm_name]} norm {eps:.4g}"
    )
