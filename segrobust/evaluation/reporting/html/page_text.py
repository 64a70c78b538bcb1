"""Texts of a page: provenance of the numbers, and what the metrics are."""

import re
from collections.abc import Iterable
from typing import Final

from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS
from segrobust.evaluation.reporting.run_files import RunFiles
from segrobust.evaluation.reporting.sensor_units import sensor_lines
from segrobust.evaluation.run.manifest import Manifest

METRIC_TEXTS: Final = {
    metric.docs_name: f"{metric.explanation[0].upper()}{metric.explanation[1:]}.".replace("`", "")
    for metric in (*METRICS, *NORM_METRICS)
}
"""What each metric is, as sentences."""


def facts(run: RunFiles) -> Iterable[tuple[str, str]]:
    """Provenance, label and text."""
    manifest = run.manifest
    yield from manifest_facts(manifest)
    units = "; ".join(sensor_lines(run.summary, manifest.value_range))
    if units:
        yield "units of the sensor", units
    yield "bands", f"bootstrap of {'recordings' if run.summary.resampling == 'sequence' else 'images'}, 95 %"
    for entry in run.provenance[-1:]:
        yield "device", f"{entry.device}, {entry.threads} thread{'s' * (entry.threads != 1)}"
        yield "processes", f"{entry.world_size}, batches of {entry.batch_size}"
        yield "versions", ", ".join(text for text in entry.versions if "not installed" not in text)
        if entry.commit:
            yield "commit", entry.commit
    if run.provenance:
        yield "started", run.provenance[0].time


def premise(criterion: str) -> str:
    """What "broken" means, and what attacks may do, for readers who have never seen an attack."""
    found = re.match(r"(Untargeted|Targeted)\(apsr=([\d.]+)\)", criterion)
    broken = f"by the criterion {criterion}"
    if found:
        goal = "wrong" if found[1] == "Untargeted" else "classified as their target"
        broken = f"when at least {100 * float(found[2]):g} % of its labelled pixels are {goal}"
    return f"An image is broken {broken}. The attacks change the values of a digital image, and most know the network."


def manifest_facts(manifest: Manifest) -> Iterable[tuple[str, str]]:
    """What was evaluated."""
    yield "data", manifest.data_description
    yield "images", f"{len(manifest.samples)} evaluated; the first has {manifest.image_size} pixels"
    yield "data fingerprint", manifest.data
    yield "network", manifest.network_description
    yield "weights", manifest.weights
    yield "preprocessing", manifest.preprocessing
    yield "precision", manifest.precision
    if manifest.preset:
        yield "preset", manifest.preset
    yield "criterion", manifest.criterion
    yield "void label", str(manifest.ignore_index)
    yield "seed", str(manifest.seed)


def commands(run: RunFiles) -> tuple[str, ...]:
    """Command lines, with the time of each."""
    return tuple(f"{entry.time}  {' '.join(entry.command)}" for entry in run.provenance)
