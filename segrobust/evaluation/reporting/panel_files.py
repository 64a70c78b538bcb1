"""Panels of a run, made from its records and the adversarial images that it kept."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from segrobust.evaluation.adversarials import AdversarialStore
from segrobust.evaluation.judging import device_of, precision_of
from segrobust.evaluation.plan import Plan, Radius
from segrobust.evaluation.records import read_records
from segrobust.evaluation.reporting.panels import draw_panel, panel_title, plain_label_space
from segrobust.evaluation.run_directory import RunDirectory
from segrobust.evaluation.samples import SampleSource, label_space_of, load_sample
from segrobust.functional.modes import attackable


def write_panels(
    network: nn.Module,
    dataset: SampleSource,
    plan: Plan,
    directory: RunDirectory,
    store: AdversarialStore,
    sample_ids: Iterable[int],
    ignore_index: int,
) -> tuple[Path, ...]:
    """Draws one panel per image and job as `panels/<sample id>-<job>.png`; fixed budgets at their largest radius.

    Returns:
        The files.

    Raises:
        FileNotFoundError: an adversarial image was not kept.
    """
    directory.panels.mkdir(exist_ok=True)
    records = {record.key: record for record in read_records(directory.path)}
    written = []
    for sample_id in sample_ids:
        sample = load_sample(dataset, sample_id)
        before = _prediction(network, sample.image)
        for job in plan.jobs:
            eps: Radius = "min" if job.attack.minimal_norm else max(job.radii)
            record = records[sample_id, job.digest, eps]
            adv = store.load(job.digest, eps, sample_id)
            panel = draw_panel(
                sample.image,
                adv,
                sample.mask,
                before,
                _prediction(network, adv),
                label_space=label_space_of(dataset) or plain_label_space(len(record.tp), ignore_index),
                title=panel_title(record),
            )
            path = directory.panels / f"{sample_id:06d}-{job.name}.png"
            panel.save(path)
            written.append(path)
    return tuple(written)


def _prediction(network: nn.Module, image: Tensor) -> Tensor:
    """Classes `(H, W)` that are predicted for one image."""
    with attackable(network), torch.no_grad():
        logits: Tensor = network(image[None].to(device_of(network), precision_of(network)))
    return logits.argmax(1)[0]
