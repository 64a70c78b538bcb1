"""Adversarial images that a run kept, shown to a network: another one for transfer, the same one as a re-judgement."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import torch
from torch import nn

from segrobust.attacks import Criterion, Untargeted
from segrobust.evaluation.dataset import SampleSource, fingerprint_of, label_space_of, load_sample
from segrobust.evaluation.run.adversarial_images import AdversarialStore, StoredAdversarial
from segrobust.evaluation.run.manifest import Manifest, describe_network, preprocessing_of
from segrobust.evaluation.run.records import CLEAN, Key, Record, RecordWriter, merge_records, read_records
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.transfer.judge_engine import JudgeEngine, Unit
from segrobust.evaluation.transfer.judgement import Judge, Judgement, adversarial_records, find_mismatches
from segrobust.networks import weights_digest

_UNTARGETED: Final = re.compile(r"Untargeted\(apsr=([0-9.e-]+)\)")


def judge_run(
    run_dir: str | os.PathLike[str],
    network: nn.Module,
    dataset: SampleSource,
    *,
    name: str,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Judgement:
    """Shows every adversarial image that a run kept to a network, and the images as they are.

    Each image is judged from its file, to the last bit, as the run judged it. Records go to
    `<run_dir>/judged/<weights>/records`, when they exist: the same call continues where a killed one stopped. Whatever
    the network, an image outside [0, 1], a norm above the radius of the attack, and a norm that the run did not record
    speak against the run; where the network is the one that the run attacked, its successes and shares of broken pixels
    are compared too.

    Args:
        run_dir: the run.
        network: maps images in [0, 1] to logits `(B, K, H, W)`.
        dataset: the samples that the run attacked.
        name: of the network, for people.
        batch_size: images that are judged together.
        device: where to work; the network is moved there. None for where it is.
        progress: whether to show progress on stderr.

    Raises:
        ValueError: the run is of other data, classes or sizes, or kept no adversarial images; a file of it is damaged.
        FloatingPointError: the network returned NaN.
        OSError: the directory cannot be written.
    """
    directory = RunDirectory(Path(run_dir))
    if not directory.manifest.is_file():
        raise ValueError(f"{run_dir} holds no run: there is no {directory.manifest.name}; it is made by evaluate")
    manifest = Manifest.read(directory.manifest)
    fingerprint = fingerprint_of(dataset)
    _require_same_data(manifest, dataset, fingerprint, directory.path)
    network = network if device is None else network.to(device)
    who = _judge_of(network, name, fingerprint)
    is_own = _is_own(manifest, who)
    sources = adversarial_records(directory.path)
    engine = JudgeEngine(
        network=network,
        dataset=dataset,
        ignore_index=manifest.ignore_index,
        seed=manifest.seed,
        criterion=_criterion_of(manifest),
        sources=sources,
        kept=_kept_of(directory.path, sources),
        batch_size=batch_size,
    )
    folder = who.folder(directory.path)
    who.claim(folder)
    with RecordWriter(folder) as writer:
        records = list(read_records(folder))
        for made in engine.records(records, name if progress else None):
            writer.write(made)
            records += made
    merged = merge_records(records)
    judgement = Judgement(
        judge=who,
        folder=folder,
        records=merged,
        num_recorded=sum(record.kind != "clean" for record in sources.values()),
        is_own=is_own,
        mismatches=find_mismatches(merged, sources, is_own=is_own),
    )
    judgement.write()
    return judgement


def _judge_of(network: nn.Module, name: str, fingerprint: str) -> Judge:
    """Who judges, from now on."""
    return Judge(
        name=name,
        weights=weights_digest(network),
        preprocessing=preprocessing_of(network),
        data=fingerprint,
        network_description=describe_network(network),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _require_same_data(manifest: Manifest, dataset: SampleSource, fingerprint: str, directory: Path) -> None:
    """Refuses a data set that is not the run's."""
    if manifest.label_space is not None and (space := label_space_of(dataset)) is not None:
        manifest.label_space.require_equal(space, str(directory), "now")
    size = "x".join(map(str, load_sample(dataset, 0).mask.shape))
    for what, there, now in (
        ("size of the first image", manifest.image_size, size),
        ("data", manifest.data, fingerprint),
    ):
        if there != now:
            raise ValueError(
                f"{directory} is a run on other data ({what}: {there} there, {now} now; there: "
                f"{manifest.data_description}); give the data set, split and transforms that it attacked"
            )


def _is_own(manifest: Manifest, who: Judge) -> bool:
    """Whether the network is that of the run."""
    if who.weights != manifest.weights:
        return False
    if who.preprocessing != manifest.preprocessing:
        raise ValueError(
            f"the network has the weights of the run's own, but is wrapped otherwise ({manifest.preprocessing} there, "
            f"{who.preprocessing} now); use the same normalisation and resizing"
        )
    return True


def _criterion_of(manifest: Manifest) -> Criterion:
    """The criterion of a run from its repr, without running what a file says."""
    match = _UNTARGETED.fullmatch(manifest.criterion)
    if match is None:
        raise ValueError(f"images are judged by Untargeted(apsr=...), the run's criterion is {manifest.criterion}")
    return Untargeted(apsr=float(match[1]))


def _kept_of(directory: Path, sources: Mapping[Key, Record]) -> dict[int, dict[Unit, StoredAdversarial]]:
    """The images that a run kept, by sample."""
    kept: dict[int, dict[Unit, StoredAdversarial]] = defaultdict(dict)
    for image in AdversarialStore(directory).stored():
        if not {(image.sample_id, image.digest, image.eps), (image.sample_id, CLEAN, None)} <= sources.keys():
            raise ValueError(
                f"{image.path} has no record in {directory / 'records'}; copy the records of all processes there, or "
                "move the image away"
            )
        kept[image.sample_id][image.digest, image.eps] = image
    if not kept:
        raise ValueError(
            f"{directory} kept no adversarial images; run the evaluation again with --keep_adversarials true"
        )
    return dict(kept)
