"""Robustness over a training, as a picture: scores under attack, and the distribution of minimal norms."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from lightning.pytorch import Trainer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from segrobust.callbacks.image_loggers import send_images
from segrobust.callbacks.log_keys import BY_PRODUCT, LogKey
from segrobust.callbacks.measurement import Measurement
from segrobust.evaluation.reporting.figure_colors import BLACK, COLORS
from segrobust.evaluation.reporting.figures.picture_faults import warned

_CURVES: Final = 6
FILE: Final = "robustness_history.png"


def history_figure(history: Sequence[Measurement]) -> Figure:
    """Plots mIoU^D over epochs, clean and under attack, and the minimal norms of the attacked images.

    Infinite norms (the attack failed) are drawn at the upper edge. Epochs are counted from 1.

    Args:
        history: measurements of one training, at least one.

    Raises:
        ValueError: no measurement.
    """
    if not history:
        raise ValueError("there is no measurement to draw")
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    scores, norms = figure.subplots(1, 2)
    epochs = [measurement.epoch + 1 for measurement in history]
    _draw_scores(scores, epochs, history)
    _draw_norms(norms, epochs, history)
    for axes in (scores, norms):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def send_history(trainer: Trainer, history: Sequence[Measurement], folder: Path | None, prefix: str) -> None:
    """Writes the picture into a folder, and sends it as `<prefix>/robustness_history`; from process 0.

    Args:
        trainer: gives the loggers.
        history: measurements so far.
        folder: of the callback's files, made if needed; nothing is written if None.
        prefix: first part of the key.
    """
    if not trainer.is_global_zero or (folder is None and not trainer.loggers):
        return
    with warned("picture of the history"):
        buffer = io.BytesIO()
        history_figure(history).savefig(buffer, format="png", dpi=110)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FILE).write_bytes(buffer.getvalue())
        send_images(trainer, f"{prefix}/robustness_history", [buffer.getvalue()])


def _draw_scores(axes: Axes, epochs: Sequence[int], history: Sequence[Measurement]) -> None:
    keys = [key for key in history[-1].values if LogKey.parse(key).metric == "miou"]
    clean = [key for key in keys if LogKey.parse(key).kind == "clean_"]
    attacked = [key for key in keys if key not in clean]
    honest = [key for key in attacked if LogKey.parse(key).kind != BY_PRODUCT] or attacked
    for key, color in ((clean[0], BLACK), *zip(honest[:_CURVES], COLORS, strict=False)):
        values = [measurement.values.get(key, math.nan) for measurement in history]
        axes.plot(epochs, values, "o-", color=color, label=_label(key), markersize=4, linewidth=1.6)
    axes.set_ylim(bottom=0)
    axes.set_title("mIoU$^D$ of the attacked images, %", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8)


def _draw_norms(axes: Axes, epochs: Sequence[int], history: Sequence[Measurement]) -> None:
    attacks = list(history[-1].norms)[: len(COLORS)]
    finite = [v for m in history for norms in m.norms.values() for v in norms if 0 < v < math.inf]
    if not attacks or not finite:
        axes.set_title("no minimal-norm attack" if not attacks else "no image was broken", loc="left", fontsize=11)
        return
    top = 1.3 * max(finite)
    bottom = 0.8 * min(finite)
    for attack, color in zip(attacks, COLORS, strict=False):
        seen = [(e, m.norms[attack]) for e, m in zip(epochs, history, strict=True) if m.norms.get(attack)]
        at = [epoch for epoch, _ in seen]
        rows = np.array(
            [np.quantile(np.clip(norms, bottom, top), (0, 0.25, 0.5, 0.75, 1), method="nearest") for _, norms in seen]
        )
        least, low, middle, high, most = 255 * rows.T
        axes.fill_between(at, least, most, color=color, alpha=0.12, linewidth=0)
        axes.fill_between(at, low, high, color=color, alpha=0.25, linewidth=0)
        axes.plot(at, middle, "o-", color=color, label=f"{attack}: median, quartiles, range", markersize=4)
    axes.set_yscale("log")
    axes.set_ylim(255 * bottom, 255 * top)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if top < 30 * bottom else (1, 3)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_title("smallest norm that breaks an image, x/255", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8)


def _label(key: str) -> str:
    """`val/pgd/miou_at_4` as "pgd at 4/255"."""
    found = LogKey.parse(key)
    if found.kind == "clean_":
        return "clean"
    return f"{found.source} at {found.radius}/255" + (", by-product" if found.kind == BY_PRODUCT else "")
