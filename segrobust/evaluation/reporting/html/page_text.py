"""Texts of a page: provenance of the numbers, and how to read them."""

from collections.abc import Iterable
from typing import Final

from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS
from segrobust.evaluation.reporting.run_files import RunFiles
from segrobust.evaluation.run.manifest import Manifest

_METRICS: Final = {
    metric.docs_name: f"{metric.explanation[0].upper()}{metric.explanation[1:]}.".replace("`", "")
    for metric in (*METRICS, *NORM_METRICS)
}

HOW_TO_READ: Final = (
    (
        "Every number under attack is a bound",
        "An attack that finds a perturbation proves that one exists; an attack that finds none proves nothing. Norms "
        "are upper bounds on the smallest perturbation that breaks an image. Scores under attack are upper bounds on "
        "the score under the strongest possible attack at that radius. A stronger attack can only lower both. Attacks "
        "can show that a network is not robust; they cannot show that it is.",
    ),
    (
        "eps",
        "The radius: the largest perturbation that is allowed. In l_inf it bounds the change of every channel of every "
        "pixel, and is given in units of 1/255, one step of an 8-bit image.",
    ),
    *_METRICS.items(),
    (
        "Minimal norm",
        "The norm of the smallest perturbation that the attack finds for an image. Where the attack fails, the norm "
        "counts as infinite: it enters every quantile, and the curve ends below 100 %. Smallest of several attacks: "
        "the smallest norm that any of them finds for an image, over the images on which all of them ran. More "
        "attacks can only lower it, so compare it only between runs with the same attacks.",
    ),
    (
        "Worst case and by-product",
        "Worst case: for each image the result of the fixed-budget attack that does most damage. By-product: a "
        "minimal-norm perturbation projected to radius eps. It was not optimised for that radius, so its scores are "
        "weak upper bounds.",
    ),
    (
        "Bands",
        "95 % bootstrap intervals. They show how much the numbers depend on the choice of images, not how strong the "
        "attack is.",
    ),
    (
        "Void pixels",
        "Pixels without a label are ignored. An image without a labelled pixel is listed, and left out of all numbers.",
    ),
)


def facts(run: RunFiles) -> Iterable[tuple[str, str]]:
    """Provenance, label and text."""
    manifest = run.manifest
    yield from manifest_facts(manifest)
    yield "bands", f"bootstrap of {'recordings' if run.summary.resampling == 'sequence' else 'images'}, 95 %"
    for entry in run.provenance[-1:]:
        yield "device", f"{entry.device}, {entry.threads} threads"
        yield "processes", f"{entry.world_size}, batches of {entry.batch_size}"
        yield "versions", ", ".join(text for text in entry.versions if "not installed" not in text)
        if entry.commit:
            yield "commit", entry.commit
    if run.provenance:
        yield "started", run.provenance[0].time


def manifest_facts(manifest: Manifest) -> Iterable[tuple[str, str]]:
    """What was evaluated."""
    yield "data", manifest.data_description
    yield "images", f"{len(manifest.samples)} evaluated, the first {manifest.image_size}"
    yield "data fingerprint", manifest.data
    yield "network", manifest.network_description
    yield "weights", manifest.weights
    yield "preprocessing", manifest.preprocessing
    yield "precision", manifest.precision
    yield "criterion", manifest.criterion
    yield "void label", str(manifest.ignore_index)
    yield "seed", str(manifest.seed)


def commands(run: RunFiles) -> tuple[str, ...]:
    """Command lines, with the time of each."""
    return tuple(f"{entry.time}  {' '.join(entry.command)}" for entry in run.provenance)
