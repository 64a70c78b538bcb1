"""Networks for the Hugging Face Hub, with a card that says how robust they were measured to be."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from torch import nn

from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS, Metric, in_place, written
from segrobust.evaluation.numbers.summary import Numbers
from segrobust.evaluation.reporting.format import norm_source, radius_text
from segrobust.evaluation.reporting.markdown import summary_text
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.reporting.score_lines import norm_lines, score_lines
from segrobust.evaluation.run.completeness import count_missing
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.networks import save_network, weights_digest
from segrobust.untrusted.printable import for_markdown, visible
from segrobust.untrusted.regular_files import replace_file

CARD: Final = "README.md"


def save_evaluated_network(
    network: nn.Module, folder: str | os.PathLike[str], *, run_dir: str | os.PathLike[str], license: str = "other"
) -> Path:
    """Writes a network into a folder for the hub, with a card of the numbers of a finished evaluation and their bounds.

    The folder is what `segrobust.networks.save_network` writes, and `README.md`.

    Args:
        network: the network that was evaluated.
        folder: made if needed; files of the same names are replaced.
        run_dir: of the evaluation.
        license: of the weights, as the hub abbreviates it, such as "apache-2.0".

    Returns:
        The card.

    Raises:
        ValueError: the directory holds no run, or one that is not finished or measured other weights.
        OSError: the folder cannot be written.
    """
    run, weights = read_run(RunDirectory(Path(run_dir))), weights_digest(network)
    if run.manifest.weights != weights:
        raise ValueError(
            f"{run_dir} measured the weights {run.manifest.weights[:8]}, the network has {weights[:8]}: evaluate this "
            f"network, or load the weights that were evaluated"
        )
    missing = count_missing(run.manifest, run.records, run.faults)
    if missing:
        raise ValueError(f"{run_dir} lacks {missing} records: finish the evaluation by the same command first")
    loads_alone = save_network(network, folder, label_space=run.manifest.label_space)
    path = Path(folder) / CARD
    replace_file(path, card_text(run, license=license, loads_alone=loads_alone).encode())
    return path


def card_text(run: RunFiles, *, license: str, loads_alone: bool) -> str:
    """The card: data for the hub, how to load the network, its classes, and the summary of the run."""
    header: dict[str, Any] = {
        "library_name": "segrobust",
        "pipeline_tag": "image-segmentation",
        "license": license,
        "tags": ["semantic-segmentation", "adversarial-robustness"],
        "model-index": [{"name": visible(run.manifest.network_description), "results": [_result(run)]}],
    }
    space = run.label_space
    names = ", ".join(f"{index} {for_markdown(name)}" for index, name in enumerate(space.names))
    parts = (
        f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---",
        f"# {for_markdown(run.manifest.network_description)}",
        _loading(loads_alone),
        f"The network takes RGB images in [0, 1], or channels as the data set gives them; the normalisation is part of "
        f"it. Its {space.num_classes} classes are: {names}. Void is {space.ignore_index}.",
        summary_text(run),
    )
    return "\n\n".join(parts) + "\n"


def _loading(loads_alone: bool) -> str:
    module = "" if loads_alone else ", network=my_network"
    builds = "" if loads_alone else "my_network = ...  # the module, built as its authors build it\n"
    return (
        "```python\nfrom segrobust.networks import load_network\n\n"
        f"{builds}"
        f'network = load_network("owner/name", revision="the commit hash"{module})\n```'
    )


def _result(run: RunFiles) -> dict[str, Any]:
    """The numbers as the hub lists them: one entry per metric, attack and radius, with the kind of bound."""
    return {
        "task": {"type": "image-segmentation", "name": "semantic segmentation under attack"},
        "dataset": {"type": "segmentation", "name": visible(run.manifest.data_description)},
        "metrics": [
            {"type": metric.key, "value": round(written(metric.unit, numbers[metric.key]), 6), "name": visible(name)}
            for metric, numbers, name in _measured(run)
            if math.isfinite(numbers[metric.key])  # not those that success rates alone leave out
        ],
    }


def _measured(run: RunFiles) -> Iterator[tuple[Metric[Any], Numbers, str]]:
    summary = run.summary
    if summary.clean is not None:
        for metric in in_place(METRICS, "clean"):
            yield metric, summary.clean, f"{metric.label}, clean, {_unit(metric)}"
    for line in score_lines(summary):
        for scores in line.scores:
            within = f"{line.label} within {line.norm_name} {radius_text(scores.eps, line.norm_name)}"
            for metric in in_place(METRICS, "headline"):
                yield metric, scores, f"{metric.label}, {within}, {_unit(metric)} ({scores.bound})"
    for norm_name, entries in norm_lines(summary).items():
        for entry in entries:
            for metric in in_place(NORM_METRICS, "headline"):
                name = f"{metric.label}, {norm_name}, {norm_source(entry)}, {_unit(metric)} ({entry.bound})"
                yield metric, entry, name


def _unit(metric: Metric[Any]) -> str:
    return "%" if metric.unit == "%" else "images in [0, 1]"
