"""Numbers as text."""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from segrobust.evaluation.numbers.metrics import Metric, written
from segrobust.evaluation.numbers.summary import Cost, NormLine, NormSummary, Scores, SmallestNormSummary
from segrobust.functional.norms import NormName
from segrobust.untrusted.printable import for_terminal
from segrobust.value_range import ValueRange

_SENSOR: Final[ContextVar[ValueRange | None]] = ContextVar("_SENSOR", default=None)
"""What lengths of l_inf are written in besides 1/255, so that no table of a report lacks it."""


@contextmanager
def in_units_of(value_range: ValueRange | None) -> Iterator[None]:
    """Within it, lengths of l_inf as text have the sensor's units too: `8/255 = 314`.

    Args:
        value_range: of the images; None for pictures of 8 bits, whose lengths are in 1/255 alone.
    """
    token = _SENSOR.set(value_range)
    try:
        yield
    finally:
        _SENSOR.reset(token)


def radius_text(eps: float, norm_name: NormName) -> str:
    """A radius as text: `8/255` in l_inf, a plain number in other norms."""
    return f"{eps * 255:.4g}/255{_in_units(eps)}" if norm_name == "linf" else f"{eps:.4g}"


def norm_text(value: float, norm_name: NormName) -> str:
    """A norm as text: `1.18/255` in l_inf; "not reached" for inf."""
    if math.isinf(value):
        return "not reached"
    return f"{value * 255:.2f}/255{_in_units(value)}" if norm_name == "linf" else f"{value:.3g}"


def eps_axis(norm_name: NormName, label: str) -> str:
    """The title of an axis of radii.

    Args:
        norm_name: the norm.
        label: its name in the picture.
    """
    if norm_name != "linf":
        return f"eps ({label}, image units)"
    unit = _in_units(1 / 255)
    return f"eps in units of 1/255{unit and f' of the range (1/255{unit})'} (l_inf)"


def per_255(norm_name: NormName) -> list[float]:
    """What 1/255 is in the sensor's units, or in the smallest and the largest; empty where a length has none."""
    value_range = _SENSOR.get()
    return [] if value_range is None or norm_name != "linf" else [width / 255 for width in value_range.widths]


def _in_units(length: float) -> str:
    value_range = _SENSOR.get()
    return "" if value_range is None else f" = {value_range.lengths(length)}"


def percent(share: float, decimals: int = 1) -> str:
    """A share in percent, without the sign; "-" for nan."""
    return "-" if math.isnan(share) else f"{written('%', share):.{decimals}f}"


def value_text(metric: Metric[Any], numbers: NormSummary | Scores) -> str:
    """The value of a metric in its unit, percent without the sign."""
    value = numbers[metric.key]
    if metric.unit == "norm" and isinstance(numbers, NormSummary):
        return norm_text(value, numbers.norm_name)
    return percent(value)


def cost_texts(cost: Cost) -> tuple[str, str]:
    """Forward and backward passes, and seconds per image."""
    return f"{cost.num_forwards:.0f}+{cost.num_backwards:.0f}", f"{cost.seconds:.3g}"


def heading(metric: Metric[Any], scores: Scores | None = None) -> str:
    """The label, with the number of objects behind the value if these are counted."""
    return f"{metric.label} ({scores.objects[metric.key]})" if scores and metric.key in scores.objects else metric.label


def median_and_quartiles(entry: NormSummary) -> str:
    """`1.18 (0.92-1.51)/255`, and the median in the sensor's units; quartiles that were not reached are `?`."""
    unit, scale = ("/255", 255) if entry.norm_name == "linf" else ("", 1)
    values = (entry["median"], entry["lower_quartile"], entry["upper_quartile"])
    if math.isinf(values[1]):
        return "not reached"
    median, lower, upper = ("?" if math.isinf(value) else f"{value * scale:.2f}" for value in values)
    sensor = _in_units(values[0]) if unit and math.isfinite(values[0]) else ""
    return f"{median} ({lower}-{upper}){unit}{sensor}"


def norm_cells(entry: NormLine) -> list[str]:
    """The first cells of a row of minimal norms: attack, images, ASR, median and quartiles, ASR at each radius."""
    first = (entry.label, str(entry.num_images), percent(entry["asr"]), median_and_quartiles(entry))
    return [*first, *map(percent, entry.asr_at)]


def norm_source(entry: NormLine) -> str:
    """The attack; for several, the number of images on which each is best: `smallest of 2 attacks: a on 3, b on 1`."""
    if not isinstance(entry, SmallestNormSummary):
        return entry.label
    ordered = sorted(entry.found_by, key=lambda found: -found.num_images)
    return f"{entry.label}: {', '.join(f'{found.attack} on {found.num_images}' for found in ordered)}"


ENVELOPE_HEAD: Final = ("attack", "images", "smallest on", "missed", "optimality", "ratio")
ENVELOPE_NOTE: Final = (
    "optimality: AttackBench's local optimality against the smallest norms, 1 at best, 0 from about a tenth above; "
    "ratio: geometric mean of the norms to the smallest, over the images that the attack breaks; missed: images that "
    "another attack alone breaks; - where there is no number"
)


def envelope_rows(entry: SmallestNormSummary) -> list[list[str]]:
    """A row per attack with the cells of `ENVELOPE_HEAD`, the highest optimality first."""
    ordered = sorted(entry.found_by, key=lambda found: (-found.optimality, found.ratio, found.attack))
    return [
        [
            found.attack,
            str(entry.num_images),
            str(found.num_images),
            str(found.num_missed),
            *envelope_texts(found.optimality, found.ratio),
        ]
        for found in ordered
    ]


def envelope_texts(optimality: float, ratio: float) -> tuple[str, str]:
    """Local optimality and ratio to the envelope with three decimals, "-" for nan."""
    written = ("-" if math.isnan(value) else f"{value:.3f}" for value in (optimality, ratio))
    first, second = written
    return first, second


def norms_note(entries: Sequence[NormLine]) -> str:
    """Which bounds the norms are; for several attacks, what each contributes, and what it misses alone."""
    parts = [entries[0].bound]
    for entry in entries:
        if isinstance(entry, SmallestNormSummary):
            parts.append(f"{norm_source(entry)} of {entry.num_images} images on which all ran, ties counted for each")
            for found in entry.found_by:
                missed = (
                    f", and fails on {found.num_missed} images that another attack breaks" if found.num_missed else ""
                )
                if found.ratio >= 1.005:
                    parts.append(f"{found.attack} alone finds norms {found.ratio:.2f} times as large{missed}")
                elif missed:
                    parts.append(f"{found.attack} alone{missed[5:]}")
    return "; ".join(parts)


class Escaped:
    """Anything that `rich` prints, with the control characters of its text escaped.

    Args:
        content: the text, table or group.
    """

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The segments of the content."""
        for segment in console.render(self._content, options):
            yield Segment(for_terminal(segment.text), segment.style, segment.control)


def plain_text(renderable: RenderableType, width: int) -> str:
    """What rich would print in a terminal of a width, without colours and trailing spaces."""
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, markup=False, emoji=False).print(Escaped(renderable))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def html_text(renderable: RenderableType, width: int) -> str:
    """The same as HTML, with the colours of a terminal; everything in it is text."""
    console = Console(file=io.StringIO(), width=width, record=True, highlight=False, markup=False, emoji=False)
    console.print(Escaped(renderable))
    style = "line-height: 1.2; overflow-x: auto; white-space: pre; font-family: monospace"
    return console.export_html(code_format=f'<pre style="{style}">{{code}}</pre>', inline_styles=True)
