"""Output of `segrobust data check`: text and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from segrobust.cli.console import say
from segrobust.data import SegmentationDataset
from segrobust.data.survey.survey import Finding, Survey
from segrobust.data.survey.survey_picture import draw_samples
from segrobust.untrusted.printable import visible

_SHOWN_FINDINGS = 12
_SHOWN_SIZES = 4
_SHOWN_CHANNELS = 16
_SHOWN_CHARACTERS = 600


def print_survey(found: Survey) -> None:
    """Prints the contents of a data set."""
    say(f"\n{found.split:8} {found.description or 'could not be made'}")
    for path in found.example:
        say(f"{'files' if path == found.example[0] else '':8} {path}")
    if found.num_read < found.num_images:
        say(f"{'read':8} {found.num_read} of {found.num_images}")
    if found.sizes:
        ordered = sorted(found.sizes, key=lambda size: (-found.sizes[size], size))
        shown = ", ".join(
            f"{height}x{width} ({found.sizes[height, width]})" for height, width in ordered[:_SHOWN_SIZES]
        )
        more = f", and {len(ordered) - _SHOWN_SIZES} more" if len(ordered) > _SHOWN_SIZES else ""
        say(f"{'sizes':8} {shown}{more}; height x width (images)")
    if found.stored:
        seen = "; ".join(f"{low:.6g}..{high:.6g}" for low, high in found.extents[:_SHOWN_CHANNELS])
        more = (
            f"; and {len(found.extents) - _SHOWN_CHANNELS} more channels"
            if len(found.extents) > _SHOWN_CHANNELS
            else ""
        )
        say(f"{'values':8} {found.stored}{f'; seen {seen}{more}' if seen else ''}")
    labelled = sum(found.class_pixels)
    if labelled + found.void_pixels:
        say(f"{'void':8} {100 * found.void_pixels / (labelled + found.void_pixels):.2f} % of the pixels")
        _print_classes(found, labelled)
    print_findings(found.findings)


def _print_classes(found: Survey, labelled: int) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    table.add_column("% of labelled pixels", justify="right")
    table.add_column("images", justify="right")
    for name, pixels, images in zip(found.classes, found.class_pixels, found.class_images, strict=True):
        share = f"{100 * pixels / labelled:.3f}" if labelled else "-"
        table.add_row(Text(visible(name)), share, str(images))
    Console(highlight=False).print(table)


def print_findings(findings: Sequence[Finding]) -> None:
    """Prints the number of findings of each kind, and the first ones."""
    for severity in ("fault", "warning"):
        for kind in dict.fromkeys(finding.kind for finding in findings if finding.severity == severity):
            messages = [f.message for f in findings if f.severity == severity and f.kind == kind]
            say(f"{severity:8} {kind}, {len(messages)}:")
            for message in messages[:_SHOWN_FINDINGS]:
                cut = " ... (--json has all of it)" if len(message) > _SHOWN_CHARACTERS else ""
                say(f"{'':8} {message[:_SHOWN_CHARACTERS]}{cut}")
            if len(messages) > _SHOWN_FINDINGS:
                say(f"{'':8} and {len(messages) - _SHOWN_FINDINGS} more; --json lists all")


def draw(datasets: Mapping[str, SegmentationDataset], path: Path, number: int) -> None:
    """Draws one picture per data set; with several, the name of the split is added to the file name."""
    for name, dataset in datasets.items():
        target = path if len(datasets) == 1 else path.with_stem(f"{path.stem}-{name}")
        count = min(number, len(dataset))
        try:
            figure = draw_samples(dataset, [position * len(dataset) // count for position in range(count)])
            figure.savefig(target, dpi=110)
        except ValueError as error:
            say(f"picture  of {name} could not be drawn: {error}")
        else:
            say(f"picture  {target}")
