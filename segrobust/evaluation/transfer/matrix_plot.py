"""The transfer matrix as a picture."""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from segrobust.evaluation.reporting.figures.curves import save_figure
from segrobust.evaluation.reporting.figures.picture_faults import warned
from segrobust.evaluation.reporting.format import in_units_of
from segrobust.evaluation.run.strict_json import write_json
from segrobust.evaluation.transfer.matrix import Row, TransferMatrix
from segrobust.untrusted.printable import visible

_COLORS: Final = "cividis"
"""Nuñez, Anderton and Renslow, 2018: a colour map for all kinds of colour vision."""

_GREY: Final = "#555555"


def write_transfer(matrix: TransferMatrix, folder: Path) -> tuple[Path, ...]:
    """Writes `transfer.json` and `transfer.png`; a picture that cannot be drawn is a warning.

    Returns:
        The files that were written.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers, picture = folder / "transfer.json", folder / "transfer.png"
    write_json(numbers, matrix.to_dict())
    with warned(f"picture {picture.name}"):
        save_figure(transfer_picture(matrix), picture)
        return numbers, picture
    return (numbers,)


def transfer_picture(matrix: TransferMatrix) -> Figure:
    """Two heat maps with numbers, mIoU^D and ASR; cells of the source network itself are framed."""
    rows, columns = len(matrix.rows), len(matrix.judges)
    with in_units_of(matrix.value_range):
        labels = [_label(row) for row in matrix.rows]
    label_width = 0.085 * max(map(len, labels))
    name_height = 0.085 * max(map(len, matrix.judges))
    size = (label_width + 2 * (1.05 * columns + 0.6), 0.42 * rows + name_height + 1.0)
    figure = Figure(figsize=size, dpi=130, layout="constrained", facecolor="white")
    axes = figure.subplots(1, 2, sharey=True)
    _heat_map(axes[0], matrix, "miou", "mIoU^D, %")
    _heat_map(axes[1], matrix, "asr", "images broken (ASR), %")
    axes[0].set_yticks(range(rows), labels, fontsize=9, parse_math=False)
    axes[0].set_ylabel("made against | attack | images", color=_GREY, fontsize=9)
    return figure


def _heat_map(axes: Axes, matrix: TransferMatrix, name: str, title: str) -> None:
    values = np.array([[np.nan if c is None else 100 * getattr(c, name) for c in r.cells] for r in matrix.rows])
    axes.imshow(np.ma.masked_invalid(values), cmap=_COLORS, vmin=0, vmax=100, aspect="auto")
    for y, row in enumerate(matrix.rows):
        for x, cell in enumerate(row.cells):
            value = values[y, x]
            text = "-" if np.isnan(value) else f"{value:.1f}"
            axes.text(x, y, text, ha="center", va="center", color=_ink(value), fontsize=9)
            if cell is not None and cell.is_source:
                corner = (x - 0.46, y - 0.44)
                axes.add_patch(Rectangle(corner, 0.92, 0.88, fill=False, edgecolor=_ink(value), linewidth=1.5))
    axes.set_xticks(range(len(matrix.judges)), matrix.judges, rotation=30, ha="right", fontsize=9, parse_math=False)
    axes.set_xlabel("judged by", color=_GREY, fontsize=9)
    axes.set_title(title, loc="left", fontsize=11)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _ink(value: float) -> str:
    """Black or white, whichever has more contrast with the colour of a value (WCAG 2.1)."""
    if np.isnan(value):
        return "black"
    red, green, blue, _ = (channel**2.2 for channel in colormaps[_COLORS](value / 100))
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def _label(row: Row) -> str:
    return visible(f"{row.source} | {row.label} | {row.num_images}")
