"""Words of a page: where the numbers are from, and how to read them."""

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
        "Every number of an attack is a bound",
        "An attack that finds a perturbation proves that one exists; an attack that finds none proves nothing. Norms "
        "are upper bounds on the smallest perturbation that breaks an image, scores under attack are upper bounds on "
        "what is left at that radius. A stronger attack can only lower them. A network is never shown to be robust, "
        "only not broken yet.",
    ),
    (
        "eps",
        "The largest change of the image that is allowed: in l_inf of any channel of any pixel, in units of 1/255, one "
        "step of an 8-bit picture.",
    ),
    *_METRICS.items(),
    (
        "Minimal norm",
        "A failure counts as infinite in every quantile, and as the plateau of the curve; it is never dropped. "
        "Smallest of several attacks: for each image the smallest norm that any of them finds, over the images that "
        "all were run on. More attacks can only lower it, so compare it among the same attacks.",
    ),
    (
        "Worst case and by-product",
        "Worst case: per image the worst of all fixed-budget attacks. By-product: a minimal-norm perturbation clipped "
        "to eps, one forward pass, not aimed at eps: a weak upper bound.",
    ),
    (
        "Bands",
        "95 % of bootstrap replicates: how much the choice of images matters, not how strong the attack is.",
    ),
    (
        "Void pixels",
        "Pixels without a label count for nothing. An image without a valid pixel is listed and left out.",
    ),
)


def facts(run: RunFiles) -> Iterable[tuple[str, str]]:
    """Provenance, label and text."""
    manifest = run.manifest
    yield from manifest_facts(manifest)
    yield "bands", f"bootstrap of {'recordings' if run.summary.resampling == 'sequence' else 'images'}, 95 %"
    for entry in run.provenance[-1:]:
        processes, batch = entry.get("world_size", "?"), entry.get("batch_size", "?")
        yield "device", f"{entry.get('device', '?')}, {entry.get('threads', '?')} threads"
        yield "processes", f"{processes}, batches of {batch}"
        yield "versions", ", ".join(text for text in entry.get("versions", ()) if "not installed" not in text)
        if entry.get("commit"):
            yield "commit", str(entry["commit"])
    if run.provenance:
        yield "started", str(run.provenance[0].get("time", ""))


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
    return tuple(f"{e.get('time', '')}  {' '.join(map(str, e.get('command', ())))}" for e in run.provenance)
