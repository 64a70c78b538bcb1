"""Stored adversarial images of a run, evaluated on a network: another one for transfer, its own one as verification."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from segrobust.attacks import Criterion, Untargeted
from segrobust.attacks.stored import Stored
from segrobust.evaluation.dataset import SampleSource, label_space_of, load_sample
from segrobust.evaluation.forward import count_classes
from segrobust.evaluation.jobs.distributed import Distributed
from segrobust.evaluation.jobs.session import Session
from segrobust.evaluation.jobs.signals import Interruption, interruptible
from segrobust.evaluation.jobs.silence import Stage
from segrobust.evaluation.plan import Job, Plan
from segrobust.evaluation.reporting.run_files import read_manifest
from segrobust.evaluation.run.adversarial_images import AdversarialStore, StoredAdversarial
from segrobust.evaluation.run.changed_samples import find_changed, read_digests
from segrobust.evaluation.run.claim import Claim
from segrobust.evaluation.run.completeness import count_unexplained
from segrobust.evaluation.run.consistency import read_criterion, read_run_records
from segrobust.evaluation.run.failures import FaultLog, read_faults
from segrobust.evaluation.run.manifest import Manifest, describe_network, preprocessing_of
from segrobust.evaluation.run.network_identity import examine_network
from segrobust.evaluation.run.records import CLEAN, Key, Record, name_samples, read_records
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.transfer.transfer_result import TargetNetwork, TransferResult, find_discrepancies, is_stored
from segrobust.functional.devices import require_device
from segrobust.inputs import require_dataset, require_finite_weights, require_network
from segrobust.networks import weights_digest
from segrobust.untrusted.printable import visible


def evaluate_stored(
    run_dir: str | os.PathLike[str],
    network: nn.Module,
    dataset: SampleSource,
    *,
    name: str,
    output: str | os.PathLike[str],
    eps: Sequence[float] = (),
    batch_size: int = 1,
    device: torch.device | str | None = None,
    distributed: Distributed = Distributed(),  # noqa: B008  frozen
    progress: bool = True,
) -> TransferResult:
    """Evaluates every adversarial image that a run stored, and the clean images, on a network.

    Each image is evaluated from its file, with the same bits that the run evaluated. Nothing is written to the run, and
    no judgement in it is read: who sent it could have put some there. Each record is written to
    `<output>/<run>-<digest of its place>/<weights>/records` as soon as it exists: the same call resumes one that was
    killed, with any number of processes. If the network raises an error for one image, the error is recorded there and
    the evaluation continues; Ctrl-C and SIGTERM stop it between two batches.

    For any network, an image outside [0, 1], a norm above the radius of the attack, and a norm or a number of valid
    pixels that differs from the recorded one are discrepancies. If the network is the one that the run attacked,
    successes, shares of broken pixels and counts of classes are compared too.

    Args:
        run_dir: the run.
        network: maps images in [0, 1] to logits `(B, K, H, W)`.
        dataset: the samples that the run attacked.
        name: of the network, for tables.
        output: folder of yours for judgements of any runs.
        eps: radii, image units, into whose balls minimal-norm perturbations are projected and evaluated once more.
        batch_size: images that are evaluated together.
        device: the network is moved there; None for the device that it is on.
        distributed: this process among those that share the work; see `Distributed.from_environment`.
        progress: whether to show progress on stderr.

    Raises:
        ValueError: the run is of other data, classes or sizes, or stored no adversarial images; a file of it is
            damaged or a link; `output` lies in a run; this machine lacks the device.
        OSError: the directory cannot be written.
    """
    distributed = distributed.for_one_call()
    directory = RunDirectory(Path(run_dir))
    manifest = read_manifest(directory)
    if manifest.label_space is not None and (space := label_space_of(dataset)) is not None:
        manifest.label_space.require_equal(space, str(directory.path), "now")
    require_network(network, by_gradients=False)
    require_finite_weights(network)
    require_dataset(dataset)
    if device is not None:
        require_device(str(device))
        network = network.to(device)
    target = _target_of(network, name)
    folder = target.folder(Path(output), directory.path)
    sources = {record.key: record for record in read_run_records(directory.path)}
    images = _stored_images(directory.path, sources)
    session = Session(
        network=network,
        dataset=dataset,
        plan=_plan_of(images, sources, _criterion_of(manifest), tuple(eps)),
        samples=tuple(sorted({image.sample_id for image in images})),
        ignore_index=manifest.ignore_index,
        batch_size=batch_size,
        seed=manifest.seed,
        distributed=distributed,
        stored=AdversarialStore(directory.path),
        weights=target.weights,
        progress=progress and distributed.is_main,
    )
    transfer = _Transfer(
        session=session, target=target, folder=folder, sources=sources, images=images, is_own=_is_own(manifest, target)
    )
    with interruptible() as stop, Claim(folder, session.manifest, distributed.rank) as claim:

        def prepare(now: Stage) -> None:
            _require_same_data(session, sources, directory.path, stop)
            session.compare_samples(folder, stop=stop)
            now.enter("the first passes of the network")
            _require_same_classes(network, dataset, sources, session.samples[0])
            identity = examine_network(folder / "network.json", network, dataset, session.samples)
            target.claim(folder)
            identity.write(folder / "network.json")

        session.complete(
            claim,
            prepare=prepare,
            store=None,
            faults=FaultLog(folder, distributed.rank),
            is_complete=lambda: transfer.result(None).missing == 0,
            conclude=lambda now: transfer.result(None).write(),
            stop=stop,
        )
    result = transfer.result(stop.signal)
    if distributed.store is not None and not distributed.is_main:
        # The folder of this process may lack records of the others, so the main process reports what is missing.
        return replace(result, missing=0)
    return result


@dataclass(frozen=True, kw_only=True)
class _Transfer:
    """One call of `evaluate_stored`, its arguments resolved."""

    session: Session
    target: TargetNetwork
    folder: Path
    sources: Mapping[Key, Record]
    images: tuple[StoredAdversarial, ...]
    is_own: bool

    @cached_property
    def wanted(self) -> frozenset[Key]:
        """Keys of the records that this call makes."""
        recorded = {(call.job.digest, call.eps): call.recorded for call in self.session.plan.attack_calls}
        keys: set[Key] = {(sample_id, CLEAN, None) for sample_id in self.session.samples}
        for image in self.images:
            keys |= {(image.sample_id, image.digest, eps) for eps in recorded[image.digest, image.eps]}
        return frozenset(keys)

    def result(self, interrupted: int | None) -> TransferResult:
        """The result so far, from files."""
        records = read_records(self.folder)
        recorded = {record.key for record in records}
        faults = read_faults(self.folder, recorded)
        return TransferResult(
            target=self.target,
            folder=self.folder,
            records=records,
            num_recorded=sum(map(is_stored, self.sources.values())),
            is_own=self.is_own,
            discrepancies=find_discrepancies(records, self.sources, is_own=self.is_own),
            faults=faults,
            missing=count_unexplained(self.wanted - recorded, faults),
            interrupted=interrupted,
        )


def _target_of(network: nn.Module, name: str) -> TargetNetwork:
    """The description of the network, with the current time."""
    return TargetNetwork(
        name=name,
        weights=weights_digest(network),
        preprocessing=preprocessing_of(network),
        network_description=describe_network(network),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _require_same_data(session: Session, sources: Mapping[Key, Record], directory: Path, stop: Interruption) -> None:
    """Refuses a data set whose images or masks are not those that the run attacked."""
    dataset, last = session.dataset, session.samples[-1]
    wrong = f"the image or the mask of sample {last} is missing" if last >= len(dataset) else ""
    if not wrong:
        digests = read_digests(dataset, session.samples, skip_unreadable=False, progress=session.progress, stop=stop)
        changed = find_changed(sources.values(), digests)
        wrong = f"the image or the mask of {name_samples(changed)} is another one" if changed else ""
    if wrong:
        raise ValueError(
            f"{directory} is a run on other data ({wrong}); give the data set, split and transforms that it attacked"
        )


def _require_same_classes(
    network: nn.Module, dataset: SampleSource, sources: Mapping[Key, Record], sample_id: int
) -> None:
    """Refuses a network for other classes."""
    there = len(next(iter(sources.values())).tp)
    num_classes = count_classes(network, load_sample(dataset, sample_id).image)
    if num_classes != there:
        raise ValueError(
            f"the network predicts {num_classes} classes, the run's network {there}; evaluate one for the same classes"
        )


def _is_own(manifest: Manifest, target: TargetNetwork) -> bool:
    """Whether the network is that of the run."""
    if target.weights != manifest.weights:
        return False
    if target.preprocessing != manifest.preprocessing:
        raise ValueError(
            f"the network has the weights of the run's network, but other wrappers ({manifest.preprocessing} there, "
            f"{target.preprocessing} now); use the same normalisation and resizing"
        )
    return True


def _criterion_of(manifest: Manifest) -> Criterion:
    """The criterion of a run from its repr, without executing code from a file."""
    criterion = read_criterion(manifest.criterion)
    if not isinstance(criterion, Untargeted):
        raise ValueError(
            f"stored images are evaluated by Untargeted(apsr=...), the run's criterion is {visible(manifest.criterion)}"
        )
    return criterion


def _stored_images(directory: Path, sources: Mapping[Key, Record]) -> tuple[StoredAdversarial, ...]:
    """The images that a run stored, by sample."""
    images = AdversarialStore(directory).stored()
    for image in images:
        if not {(image.sample_id, image.digest, image.eps), (image.sample_id, CLEAN, None)} <= sources.keys():
            raise ValueError(
                f"{image.path} has no record in {directory / 'records'}; copy the records of all processes there, or "
                "move the image away"
            )
    if not images:
        raise ValueError(
            f"{directory} stored no adversarial images; run the evaluation again with --keep_adversarials true"
        )
    return images


def _plan_of(
    images: Sequence[StoredAdversarial], sources: Mapping[Key, Record], criterion: Criterion, eps: tuple[float, ...]
) -> Plan:
    """One job for each attack of which there are images, under its name, at the radii of the images."""
    if eps and all(image.eps != "min" for image in images):
        raise ValueError(f"eps={eps} applies to minimal-norm attacks only, and the run stored images of none")
    first = {image.digest: sources[image.sample_id, image.digest, image.eps] for image in reversed(images)}
    return Plan(
        jobs=tuple(
            Job(
                name=source.attack,
                attack=Stored(
                    source=digest,
                    norm=source.norm_name or "linf",
                    minimal_norm=source.kind == "minimal-norm",
                    criterion=criterion,
                ),
                eps=eps
                if source.kind == "minimal-norm"
                else tuple(sorted({each.eps for each in images if each.digest == digest and each.eps != "min"})),
            )
            for digest, source in sorted(first.items())
        )
    )
