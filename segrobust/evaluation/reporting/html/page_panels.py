"""The panels of a page, as embedded pictures."""

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from segrobust.evaluation.reporting.figures.panel_files import PANEL_SCHEMA, TILES
from segrobust.evaluation.reporting.format import norm_text, percent, radius_text
from segrobust.evaluation.reporting.html.page import PagePanel, View
from segrobust.evaluation.reporting.notable import notable_samples
from segrobust.evaluation.reporting.run_files import RunFiles

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
        panel = _panel(folder, info, why[info["sample_id"]])
        size = sum(len(view.uri) for view in panel.views)
        if used + size <= room:
            chosen.append((place, panel))
            used += size
    chosen.sort(key=lambda pair: (pair[0][1:], pair[0][0]))
    return tuple(panel for _, panel in chosen), len(found) - len(chosen)


def _ordered(run: RunFiles, why: Mapping[int, str]) -> list[tuple[tuple[int, int, int], Path, Mapping[str, Any]]]:
    """Panels on disk by attack, then worst, median and random."""
    attacks = [entry.digest for entry in run.manifest.attacks]
    ranks = ("worst image", "median image", "random image")
    found = []
    for path in sorted((run.directory.panels / TILES).glob("*/panel.json")):
        info = json.loads(path.read_bytes())
        sample_id = info["sample_id"]
        if info["schema"] == PANEL_SCHEMA and info["digest"] in attacks and sample_id in why:
            place = attacks.index(info["digest"]), ranks.index(why[sample_id]), sample_id
            found.append((place, path.parent, info))
    return sorted(found, key=lambda entry: entry[0])


def _panel(folder: Path, info: Mapping[str, Any], why: str) -> PagePanel:
    budget = "" if info["eps"] == "min" else f" at eps {radius_text(info['eps'], info['norm_name'])}"
    norm = norm_text(float(info["norm"]), info["norm_name"])
    shares = f"broken pixels {percent(float(info['apsr']))} % (clean {percent(float(info['clean_apsr']))} %)"
    return PagePanel(
        key=folder.name,
        why=why,
        image=f"{info['sample_id']}: {info['sample_name']}",
        job=f"{info['job']}{budget}",
        outcome=f"{'broken' if info['success'] else 'not broken'}, norm {norm}, {shares}",
        size=(info["size"][0], info["size"][1]),
        views=tuple(
            View(
                name=name,
                label=f"{label} x {info['factor']}" if name == "perturbation" else label,
                uri=f"data:image/webp;base64,{b64encode((folder / f'{file}.webp').read_bytes()).decode()}",
                smooth=name in _SMOOTH,
            )
            for name, (file, label) in _VIEWS.items()
            if (folder / f"{file}.webp").exists()
        ),
        legend=tuple((name, (int(color[0]), int(color[1]), int(color[2]))) for name, color in info["legend"]),
    )
