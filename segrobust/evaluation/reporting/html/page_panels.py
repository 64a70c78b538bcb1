"""The panels of a page, as embedded pictures."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from segrobust.evaluation.reporting.figures.panel_files import TILES, PanelInfo
from segrobust.evaluation.reporting.format import norm_text, percent, radius_text
from segrobust.evaluation.reporting.html.page import PagePanel, View
from segrobust.evaluation.reporting.notable import notable_samples
from segrobust.evaluation.reporting.run_files import RunFiles
from segrobust.evaluation.reporting.sensor_units import with_units
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.regular_files import read_limited
from segrobust.value_range import ValueRange

_VIEWS: Final = {
    "clean": ("image", "clean image"),
    "adversarial": ("adversarial", "adversarial"),
    "perturbation": ("perturbation", "perturbation"),
    "before": ("clean", "prediction, clean"),
    "prediction": ("prediction", "prediction, attacked"),
    "errors": ("errors", "newly wrong"),
    "target": ("target", "target"),
    "truth": ("truth", "ground truth"),
}
_LARGEST_TILE: Final = 2**24
_SMOOTH: Final = {"clean", "adversarial"}


def choose_panels(run: RunFiles, room: int) -> tuple[tuple[PagePanel, ...], int]:
    """The worst image, the median one and random ones, under the first attack, then under the others.

    Args:
        run: whose panels are chosen.
        room: bytes that all pictures together may take.

    Returns:
        The panels that fit, image by image, and how many are left out.
    """
    notable = notable_samples(run.records)
    why = dict.fromkeys(run.manifest.samples, "random image")
    for name in ("median", "worst"):
        if name in notable:
            why[notable[name]] = f"{name} image"
    found = _ordered(run, why)
    chosen, used = [], 0
    for place, folder, info in found:
        panel = _panel(folder, info, why[info.sample_id], run.manifest.value_range)
        size = sum(len(view.uri) for view in panel.views)
        if used + size <= room:
            chosen.append((place, panel))
            used += size
    chosen.sort(key=lambda pair: (pair[0][1:], pair[0][0]))
    return tuple(panel for _, panel in chosen), len(found) - len(chosen)


def _ordered(run: RunFiles, why: Mapping[int, str]) -> list[tuple[tuple[int, int, int], Path, PanelInfo]]:
    """Panels on disk by attack, then worst, median and random."""
    attacks = [entry.digest for entry in run.manifest.attacks]
    ranks = ("worst image", "median image", "random image")
    found = []
    for path in sorted((run.directory.panels / TILES).glob("*/panel.json")):
        info = PanelInfo.read(path)
        if info.digest in attacks and info.sample_id in why:
            place = attacks.index(info.digest), ranks.index(why[info.sample_id]), info.sample_id
            found.append((place, path.parent, info))
    return sorted(found, key=lambda entry: entry[0])


def _panel(folder: Path, info: PanelInfo, why: str, value_range: ValueRange | None) -> PagePanel:
    budget = "" if info.eps == "min" else f" at eps {radius_text(info.eps, info.norm_name)}"
    norm = with_units(norm_text(info.norm, info.norm_name), info.norm, info.norm_name, value_range)
    shares = f"broken pixels {percent(info.apsr)} % (clean {percent(info.clean_apsr)} %)"
    return PagePanel(
        key=folder.name,
        why=why,
        image=f"{info.sample_id}: {info.sample_name}",
        job=f"{info.job}{budget}",
        outcome=f"{'broken' if info.success else 'not broken'}, norm {norm}, {shares}",
        size=info.size,
        views=tuple(
            View(
                name=name,
                label=f"{label} x {info.factor}" if name == "perturbation" else label,
                uri=f"data:image/webp;base64,{b64encode(_tile(folder / f'{file}.webp')).decode()}",
                smooth=name in _SMOOTH,
            )
            for name, (file, label) in _VIEWS.items()
            if (folder / f"{file}.webp").exists()
        ),
        legend=info.legend,
    )


def _tile(path: Path) -> bytes:
    """The content of a picture in WEBP.

    Raises:
        DataFault: another format, too large, or no regular file.
    """
    content = read_limited(path, _LARGEST_TILE, "a tile", follow_links=False)
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise DataFault(f"{path} is no picture in WEBP; delete {path.parent} and run the evaluation again")
    return content
