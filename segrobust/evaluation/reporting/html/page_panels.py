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
_URI: Final = "data:image/webp;base64,"
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
        files = {name: folder / f"{file}.webp" for name, (file, _) in _VIEWS.items()}
        files = {name: file for name, file in files.items() if file.exists()}
        size = sum(len(_URI) + 4 * -(-file.stat().st_size // 3) for file in files.values())
        if used + size <= room:  # else no picture is read
            chosen.append((place, _panel(run, folder.name, files, info, why[info.sample_id])))
            used += size
    chosen.sort(key=lambda pair: (pair[0][1:], pair[0][0]))
    return tuple(panel for _, panel in chosen), len(found) - len(chosen)


def _ordered(run: RunFiles, why: Mapping[int, str]) -> list[tuple[tuple[int, int, int], Path, PanelInfo]]:
    """Panels on disk by attack, then worst, median and random; one of each attack and image."""
    attacks = [entry.digest for entry in run.manifest.attacks]
    ranks = ("worst image", "median image", "random image")
    found: dict[tuple[int, int, int], tuple[tuple[int, int, int], Path, PanelInfo]] = {}
    for path in sorted((run.directory.panels / TILES).glob("*/panel.json")):
        info = PanelInfo.read(path, run.directory.path)
        if info.digest in attacks and info.sample_id in why:
            place = attacks.index(info.digest), ranks.index(why[info.sample_id]), info.sample_id
            found.setdefault(place, (place, path.parent, info))
    return [found[place] for place in sorted(found)]


def _panel(run: RunFiles, key: str, files: Mapping[str, Path], info: PanelInfo, why: str) -> PagePanel:
    budget = "" if info.eps == "min" else f" at eps {radius_text(info.eps, info.norm_name)}"
    norm = with_units(norm_text, info.norm, info.norm_name, run.manifest.value_range)
    shares = f"broken pixels {percent(info.apsr)} % (clean {percent(info.clean_apsr)} %)"
    return PagePanel(
        key=key,
        why=why,
        image=f"{info.sample_id}: {info.sample_name}",
        job=f"{info.job}{budget}",
        outcome=f"{'broken' if info.success else 'not broken'}, norm {norm}, {shares}",
        size=info.size,
        views=tuple(
            View(
                name=name,
                label=f"{_VIEWS[name][1]} x {info.factor}" if name == "perturbation" else _VIEWS[name][1],
                uri=f"{_URI}{b64encode(_tile(file, run.directory.path)).decode()}",
                smooth=name in _SMOOTH,
            )
            for name, file in files.items()
        ),
        legend=info.legend,
    )


def _tile(path: Path, root: Path) -> bytes:
    """The content of a picture in WEBP.

    Raises:
        DataFault: another format, too large, or no regular file.
    """
    content = read_limited(path, _LARGEST_TILE, "a tile", root=root)
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        raise DataFault(f"{path} is no picture in WEBP; delete {path.parent} and run the evaluation again")
    return content
