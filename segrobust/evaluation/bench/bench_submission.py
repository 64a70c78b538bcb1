"""A run lowers the cells of a bench: its perturbations become witnesses, and the worst of each image stay."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Final

from torch import nn

from segrobust.attacks import Untargeted
from segrobust.attacks.core.identity import identity_digest
from segrobust.evaluation.bench.bench_consistency import read_bench
from segrobust.evaluation.bench.bench_file import BenchFile, BenchImage, Entry
from segrobust.evaluation.bench.bench_verification import verify_bench
from segrobust.evaluation.bench.choice import choose_norm, choose_radius
from segrobust.evaluation.bench.run_witnesses import WitnessMaker
from segrobust.evaluation.bench.stored_samples import write_sample
from segrobust.evaluation.bench.witness import digest_of, witness_path, write_witness
from segrobust.evaluation.dataset import LoadedSample, SampleSource, describe_data, load_sample
from segrobust.evaluation.reporting.format import norm_text, radius_text
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.changed_samples import find_changed
from segrobust.evaluation.run.consistency import read_criterion
from segrobust.evaluation.run.locks import LOCKS, RunInUseError, acquire
from segrobust.evaluation.run.manifest import preprocessing_of
from segrobust.evaluation.run.records import Record, name_samples
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.functional.norms import NormName
from segrobust.networks import weights_digest
from segrobust.untrusted.file_names import check_file_name
from segrobust.untrusted.printable import visible
from segrobust.untrusted.regular_files import remove

_PATIENCE: Final = 600.0
"""Seconds to wait for another submission."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a run changed in one file of a bench.

    Attributes:
        path: of the file.
        num_judged: perturbations of the run that were judged.
        changes: cells that are lower now, and by how much, one line each.
        refused: perturbations that no cell can name, and why, one line each.
    """

    path: Path
    num_judged: int
    changes: tuple[str, ...]
    refused: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{self.path}: {self.num_judged} perturbations judged, {len(self.changes)} numbers lower"
        lines = (*self.changes, *(f"refused: {each}" for each in self.refused))
        return "\n".join((head, *(f"  {visible(line)}" for line in lines)))


def submit_run(
    run_dir: Path, network: nn.Module, dataset: SampleSource, folder: Path, *, name: str, store_images: bool = False
) -> tuple[Submission, ...]:
    """Lowers the cells of a bench by the stored perturbations of a run; no cell can rise.

    Each perturbation is read from its file, rounded to whole steps and judged by a forward pass: the records of the run
    give the attack and its passes, and nothing else. A file that exists is verified first.

    Args:
        run_dir: a run with stored adversarial images.
        network: that the run attacked, in float32.
        dataset: of the run.
        folder: of the bench; made if it is missing.
        name: of the network in the bench.
        store_images: whether to store images and labels too, for data that may be published and that other versions of
            libraries give with a few other pixels.

    Returns:
        One submission per norm in which the run stored images.

    Raises:
        ValueError: no run, one of another network or other data, with another criterion than the file's, or without
            stored images; or a file whose cells are not true.
        OSError: a file cannot be read or written.
    """
    check_file_name(name, "the name of a network")
    run = read_run(RunDirectory(run_dir))
    _require_same_network(run, network)
    _require_true_identities(run)
    stored = _stored(run)
    samples = {sample_id: load_sample(dataset, sample_id) for sample_id in sorted({r.sample_id for r in stored})}
    changed = find_changed(run.records, {sample_id: sample.digest for sample_id, sample in samples.items()})
    if changed:
        raise ValueError(
            f"{run_dir} is a run on other data: the image or the mask of {name_samples(changed)} is another"
        )
    with _alone(folder):
        found = tuple(
            _submit(run, [r for r in stored if r.norm_name == norm_name], network, dataset, samples, folder, name)
            for norm_name in sorted({record.norm_name or "linf" for record in stored})
        )
        for image in read_bench(found[0].path).images if store_images else ():
            write_sample(load_sample(dataset, image.sample_id), image, folder)
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One submission at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCKS / "bench.lock"
    lock = acquire(path, _PATIENCE)
    if lock is None:
        raise RunInUseError(
            f"another submission has been writing to {folder} for {_PATIENCE:.0f} s: wait for it or end it; if none is "
            f"left, delete {path.parent}"
        )
    try:
        yield
    finally:
        lock.release()


def _submit(
    run: RunFiles,
    records: Sequence[Record],
    network: nn.Module,
    dataset: SampleSource,
    samples: Mapping[int, LoadedSample],
    folder: Path,
    name: str,
) -> Submission:
    """The submission of the records of one norm."""
    empty = _empty(run, records, network, dataset, samples, name)
    before = _existing(empty, network, dataset, folder)
    wanted = {image.sample_id for image in before.images}
    if wanted.isdisjoint(record.sample_id for record in records):
        raise ValueError(f"{before.path(folder)} is of images {sorted(wanted)}, and the run stored none of them")
    missing = wanted - samples.keys()
    samples = {**samples, **{sample_id: load_sample(dataset, sample_id) for sample_id in missing}}
    store = AdversarialStore(run.directory.path)
    maker = WitnessMaker(bench=before, network=network, samples=samples, store=store, seed=run.manifest.seed)
    found = [*maker.make(records)]
    usable = {each.entry.witness: each for each in found if not each.refusal}
    identities = {entry.digest: entry.attack for entry in run.manifest.attacks}
    radii = {eps for entry in run.manifest.attacks if entry.norm_name == before.norm_name for eps in entry.eps}
    after = lowered(before, [each.entry for each in usable.values()], radii, identities)
    changes = tuple(_changes(before, after))
    if changes:
        for digest in after.named - before.named:
            write_witness(usable[digest].witness, folder)
        after.write(folder)
        for digest in before.named - after.named:
            remove(witness_path(folder, digest), root=folder)
    refused = (
        f"image {each.sample_id}, {each.witness.origin.attack}: {each.refusal}" for each in found if each.refusal
    )
    return Submission(path=after.path(folder), num_judged=len(found), changes=changes, refused=tuple(refused))


def lowered(
    before: BenchFile, entries: Iterable[Entry], radii: Iterable[float], identities: Mapping[str, str]
) -> BenchFile:
    """A file whose cells are the worst of its own witnesses and of others.

    Args:
        before: the file.
        entries: of other witnesses of its images, those of the clean images among them.
        radii: besides those of the file.
        identities: of their attacks, by digest.
    """
    pool: dict[int, dict[str, Entry]] = {image.sample_id: {} for image in before.images}
    for entry in (*before.entries, *entries):
        pool[entry.sample_id].setdefault(entry.witness, entry)
    by_image = {sample_id: tuple(found.values()) for sample_id, found in pool.items()}
    cells = {cell.eps: cell for cell in before.radii}
    norms = (choose_norm(by_image[image.sample_id]) for image in before.images)
    after = replace(
        before,
        entries=tuple(entry for found in by_image.values() for entry in found),
        norms=tuple(None if entry is None else entry.witness for entry in norms),
        radii=tuple(
            choose_radius(before.images, by_image, eps, cells.get(eps)) for eps in sorted({*radii, *cells.keys()})
        ),
    )
    kept = tuple(entry for entry in after.entries if entry.witness in after.named)
    known = {**before.attacks, **identities}
    attacks = {entry.attack_digest: known[entry.attack_digest] for entry in kept if entry.eps is not None}
    return replace(after, entries=kept, attacks=dict(sorted(attacks.items())))


def _require_same_network(run: RunFiles, network: nn.Module) -> None:
    """Refuses a run of another network, or of another criterion or precision than a bench has."""
    manifest = run.manifest
    if not isinstance(read_criterion(manifest.criterion), Untargeted):
        raise ValueError(
            f"a bench is of Untargeted(apsr=...), and the run's criterion is {visible(manifest.criterion)}"
        )
    if manifest.precision != "float32":
        raise ValueError(f"a bench is judged in float32, and the run's precision is {manifest.precision}")
    for what, now in (("weights", weights_digest(network)), ("preprocessing", preprocessing_of(network))):
        if getattr(manifest, what) != now:
            raise ValueError(
                f"the run attacked another network: {what} {visible(getattr(manifest, what))} there, {now} now; give "
                "the network and the checkpoint of the run"
            )


def _require_true_identities(run: RunFiles) -> None:
    """Refuses a run whose manifest gives an attack other settings than its digest: a bench with them is not true."""
    for entry in run.manifest.attacks:
        if identity_digest(entry.attack) != entry.digest:
            raise ValueError(
                f"{run.directory.manifest}: the settings of attack {entry.name} are not those that its digest "
                f"{entry.digest} is of; a bench needs the run of the attacks themselves"
            )


def _stored(run: RunFiles) -> list[Record]:
    """Records whose adversarial images the run stored.

    Raises:
        ValueError: there is none.
    """
    images = {(image.sample_id, image.digest, image.eps) for image in AdversarialStore(run.directory.path).stored()}
    found = [r for r in run.records if r.key in images and r.kind in ("minimal-norm", "fixed-budget") and r.num_valid]
    if not found:
        raise ValueError(
            f"{run.directory.path} stored no adversarial images; run the evaluation again with --keep_adversarials true"
        )
    return found


def _empty(
    run: RunFiles,
    records: Sequence[Record],
    network: nn.Module,
    dataset: SampleSource,
    samples: Mapping[int, LoadedSample],
    name: str,
) -> BenchFile:
    """A file without cells for the images of a run."""
    first = {record.sample_id: record for record in reversed(records)}
    images = tuple(_image(first[sample_id], samples[sample_id]) for sample_id in sorted(first))
    norm_name: NormName = records[0].norm_name or "linf"
    return BenchFile(
        network=name,
        weights=weights_digest(network),
        preprocessing=preprocessing_of(network),
        data=describe_data(dataset),
        norm_name=norm_name,
        criterion=run.manifest.criterion,
        ignore_index=run.manifest.ignore_index,
        num_classes=len(records[0].tp),
        images=images,
        attacks={},
        entries=(),
        norms=(None,) * len(images),
        radii=(),
    )


def _image(record: Record, sample: LoadedSample) -> BenchImage:
    return BenchImage(
        sample_id=record.sample_id,
        name=record.sample_name,
        image=digest_of(sample.image),
        label=digest_of(sample.mask),
        sample=sample.digest,
        num_valid=record.num_valid,
    )


def _existing(empty: BenchFile, network: nn.Module, dataset: SampleSource, folder: Path) -> BenchFile:
    """The file as it is, whose cells are true; the empty one if there is none.

    Raises:
        ValueError: it is of something else, shares no image with the run, or is not true.
    """
    path = empty.path(folder)
    if not os.path.lexists(path):
        return empty
    there = read_bench(path)
    for what in ("weights", "preprocessing", "criterion", "ignore_index", "num_classes"):
        stated, now = getattr(there, what), getattr(empty, what)
        if stated != now:
            raise ValueError(
                f"{path} is of another {what}: {visible(str(stated))} there, {visible(str(now))} in the run"
            )
    verified = verify_bench(path, network, dataset)
    if verified.problems or verified.num_missing:
        raise ValueError(f"only a bench that is verified is lowered\n{verified}")
    return there


def _changes(before: BenchFile, after: BenchFile) -> Iterator[str]:
    """The numbers that are lower now, and by how much."""
    norm_name = before.norm_name
    for image in before.images:
        there, now = before.envelope[image.sample_id], after.envelope[image.sample_id]
        if now < there:
            share = "" if there in (0, inf) else f" ({100 * (now / there - 1):+.2f} %)"
            norms = f"norm {norm_text(there, norm_name)} -> {norm_text(now, norm_name)}{share}"
            yield f"image {image.sample_id} ({image.name}): {norms}"
    cells = {cell.eps: cell for cell in before.radii}
    for cell in after.radii:
        older = cells.get(cell.eps)
        for label, name in (("aAcc", "accuracy"), ("mIoU^D", "miou")):
            left = getattr(cell, name)
            where = f"{label} at {radius_text(cell.eps, norm_name)}"
            if older is None:
                yield f"{where}: {100 * left:.2f} %, not known before"
            elif left < getattr(older, name):
                yield f"{where}: {100 * getattr(older, name):.2f} % -> {100 * left:.2f} %"
