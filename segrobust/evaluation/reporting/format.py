"""Numbers as text."""

import io
import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from segrobust.evaluation.numbers.metrics import Metric, written
from segrobust.evaluation.numbers.summary import Cost, NormLine, NormSummary, Scores, SmallestNormSummary
from segrobust.functional.norms import NormName
from segrobust.untrusted.printable import for_terminal


def radius_text(eps: float, norm_name: NormName) -> str:
    """A radius as text: `8/255` in l_inf, a plain number in other norms."""
    return f"{eps * 255:.4g}/255" if norm_name == "linf" else f"{eps:.4g}"


def norm_text(value: float, norm_name: NormName) -> str:
    """A norm as text: `1.18/255` in l_inf; "not reached" for inf."""
    if math.isinf(value):
        return "not reached"
    return f"{value * 255:.2f}/255" if norm_name == "linf" else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in percent with one decimal, without the sign; "-" for nan."""
    return "-" if math.isnan(share) else f"{written('%', share):.1f}"


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
    """`1.18 (0.92-1.51)/255`; quartiles that were not reached are `?`."""
    unit, scale = ("/255", 255) if entry.norm_name == "linf" else ("", 1)
    values = (entry["median"], entry["lower_quartile"], entry["upper_quartile"])
    if math.isinf(values[1]):
        return "not reached"
    median, lower, upper = ("?" if math.isinf(value) else f"{value * scale:.2f}" for value in values)
    return f"{median} ({lower}-{upper}){unit}"


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
