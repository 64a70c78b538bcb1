"""Whether the cells of a bench are true: each witness is judged again by one forward pass."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import isclose
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from segrobust.attacks.core.identity import identity_digest
from segrobust.evaluation.bench.bench_consistency import read_bench
from segrobust.evaluation.bench.bench_file import BenchFile, BenchImage, Entry
from segrobust.evaluation.bench.choice import accuracy_of, choose_norm, miou_of
from segrobust.evaluation.bench.rejudge import MOST_CLOSE, Judged, rejudge
from segrobust.evaluation.bench.stored_samples import near_sample
from segrobust.evaluation.bench.witness import WitnessError, digest_of, read_witness
from segrobust.evaluation.dataset import LoadedSample, SampleSource, load_sample
from segrobust.evaluation.forward import count_classes, precision_of
from segrobust.evaluation.run.manifest import preprocessing_of
from segrobust.evaluation.run.records import CLEAN
from segrobust.networks import weights_digest
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import shortened, visible

_EXACT: Final = 1e-9
"""Relative difference of two measurements of one norm in float64, whose sums may be taken in another order."""


@dataclass(frozen=True)
class Verification:
    """What a bench file claims that is not so.

    Attributes:
        path: of the file.
        num_cells: cells that were compared: norms, and the choices per image at each radius.
        num_missing: witnesses that are not at hand; their cells are not compared.
        problems: one sentence each; empty if all cells are true.
        num_rounded: witnesses whose counts differ by pixels that are too close to call.
        num_near: images that the data set gives with a few other pixels, so that the stored ones were judged.
    """

    path: Path
    num_cells: int
    num_missing: int
    problems: tuple[str, ...]
    num_rounded: int
    num_near: int

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.num_cells} cells verified, {len(self.problems)} problems"]
        if self.num_rounded:
            lines.append(f"  {self.num_rounded} witnesses differ by pixels that are too close to call, as is allowed")
        if self.num_near:
            lines.append(f"  {self.num_near} images have a few other pixels here; the stored images were judged")
        if self.num_missing:
            lines.append(f"  not verified: {self.num_missing} witnesses are not at hand")
        return "\n".join((*lines, *(f"  {visible(problem)}" for problem in self.problems)))


def verify_bench(path: Path, network: nn.Module, dataset: SampleSource, *, batch_size: int = 1) -> Verification:
    """Compares every cell of a bench file with one forward pass over its witness.

    Nothing in the file or beside it is trusted. What no forward pass shows, the attack and its passes, is compared with
    what the witness says of itself, whose content its name is the digest of.

    Args:
        path: of the file; witnesses lie in `witnesses` beside it.
        network: of the file, in float32.
        dataset: of its images.
        batch_size: images per forward pass.
    """
    try:
        bench = read_bench(path)
        problems = [*_foreign(bench, network)]
        if problems:
            return Verification(path, 0, 0, tuple(problems), 0, 0)
        samples, num_near = _samples(bench, dataset, path.parent)
        if count_classes(network, next(iter(samples.values())).image) != bench.num_classes:
            raise DataFault(f"the network does not predict {bench.num_classes} classes, as the file says")
    except (ValueError, OSError) as error:
        return Verification(path, 0, 0, (str(error),), 0, 0)
    found, missing, problems = _read_witnesses(bench, path.parent, samples)
    judged = _judge(bench, network, samples, found, batch_size)
    for entry in bench.entries:
        if entry.witness in judged:
            problems += [
                f"{_place(bench, entry)}: {each}" for each in _differences(bench, entry, judged[entry.witness])
            ]
    problems += [*_wrong_identities(bench), *_wrong_cells(bench)]
    return Verification(
        path,
        num_cells=sum(entry in judged for cells in _all_cells(bench) for entry in cells),
        num_missing=len(missing),
        problems=tuple(problems),
        num_rounded=sum(_counts(bench.by_witness[each]) != _counts(now) for each, now in judged.items()),
        num_near=num_near,
    )


def _foreign(bench: BenchFile, network: nn.Module) -> Iterator[str]:
    """In what way the network is not that of the file."""
    there_and_now = {
        "weights": (bench.weights, weights_digest(network)),
        "preprocessing": (bench.preprocessing, preprocessing_of(network)),
        "precision": ("float32", str(precision_of(network)).removeprefix("torch.")),
    }
    for name, (there, now) in there_and_now.items():
        if there != now:
            yield f"the network is another one: {name} {shortened(there)} in the file, {shortened(now)} now"


def _samples(bench: BenchFile, dataset: SampleSource, folder: Path) -> tuple[dict[int, LoadedSample], int]:
    """The samples of the file, by sample id, and how many are drawn with a few other pixels here.

    Raises:
        DataFault: an image or a label is missing or another one.
    """
    found, num_near = {}, 0
    for image in bench.images:
        if image.sample_id >= len(dataset):
            raise DataFault(f"image {image.sample_id} ({image.name}) is not in the data set, which has {len(dataset)}")
        sample = load_sample(dataset, image.sample_id)
        other = next(_other_digests(image, sample), None)
        near = None if other is None else near_sample(folder, image, sample)
        if other is not None and near is None:
            raise DataFault(other)
        num_near += near is not None
        found[image.sample_id] = sample if near is None else near
        _require_labels(bench, image, found[image.sample_id])
    return found, num_near


def _other_digests(image: BenchImage, sample: LoadedSample) -> Iterator[str]:
    """In what a sample is not the one of the file."""
    now = {"image": digest_of(sample.image), "label": digest_of(sample.mask), "sample": sample.digest}
    for what, digest in now.items():
        if getattr(image, what) != digest:
            yield (
                f"the {what} of image {image.sample_id} ({image.name}) is another one: digest {getattr(image, what)} "
                f"in the file, {digest} now; give the data set, split and transforms of the bench"
            )


def _require_labels(bench: BenchFile, image: BenchImage, sample: LoadedSample) -> None:
    """Refuses labels that are neither void nor classes of the file."""
    void = sample.mask == bench.ignore_index
    if not (void | (sample.mask >= 0) & (sample.mask < bench.num_classes)).all():
        raise DataFault(
            f"the label of image {image.sample_id} ({image.name}) holds other values than the classes 0 to "
            f"{bench.num_classes - 1} and the void label {bench.ignore_index} of the file"
        )


def _read_witnesses(
    bench: BenchFile, folder: Path, samples: dict[int, LoadedSample]
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Perturbed images by witness, the witnesses that are not there, and what is wrong with others."""
    found, missing, problems = {}, [], []
    for entry in bench.entries:
        image = samples[entry.sample_id].image
        try:
            witness = read_witness(folder, entry.witness, image.shape)
            said, wanted = asdict(witness.origin), asdict(bench.origin(entry))
            wrong = [f"{name} {said[name]}, the file {wanted[name]}" for name in said if said[name] != wanted[name]]
            if wrong:
                problems.append(f"{_place(bench, entry)}: its witness says {'; '.join(wrong)}")
            found[entry.witness] = witness.adversarial(image)
        except FileNotFoundError:
            missing.append(entry.witness)
        except WitnessError as error:
            problems.append(f"{_place(bench, entry)}: {error}")
    return found, missing, problems


def _judge(
    bench: BenchFile,
    network: nn.Module,
    samples: dict[int, LoadedSample],
    perturbed: dict[str, Tensor],
    batch_size: int,
) -> dict[str, Judged]:
    """What one forward pass says of each witness."""
    judged: dict[str, Judged] = {}
    for _, group in groupby(perturbed, key=lambda witness: perturbed[witness].shape):
        witnesses = list(group)
        for start in range(0, len(witnesses), batch_size):
            batch = witnesses[start : start + batch_size]
            results = rejudge(
                network,
                [samples[bench.by_witness[witness].sample_id] for witness in batch],
                [perturbed[witness] for witness in batch],
                bench.untargeted,
                norm_name=bench.norm_name,
                ignore_index=bench.ignore_index,
            )
            judged |= dict(zip(batch, results, strict=True))
    return judged


def _differences(bench: BenchFile, entry: Entry, now: Judged) -> Iterator[str]:
    """In what an entry differs from a forward pass by more than is allowed."""
    image = bench.image_of[entry.sample_id]
    if not isclose(entry.norm, now.norm, rel_tol=_EXACT, abs_tol=_EXACT * 1e-3):
        yield f"norm {entry.norm:.9g} in the file, {now.norm:.9g} measured"
    if image.num_valid != now.num_valid:
        yield f"{image.num_valid} valid pixels in the file, {now.num_valid} counted"
    if not now.is_stable:
        yield f"{now.close} pixels are too close to call, more than {MOST_CLOSE:.0%} of the valid ones"
    if abs(entry.slack - now.slack) > now.close:
        yield f"slack {entry.slack} pixels in the file, {now.slack} measured, {now.close} too close to call"
    if not now.close_at_least <= entry.close <= now.close_at_most:
        yield f"{entry.close} pixels too close to call in the file, {now.close} measured"
    if entry.witness in bench.norms and now.slack < 0:
        yield f"the image is not broken: {-now.slack} pixels are missing"
    for name in ("tp", "fp", "fn"):
        there, counted = getattr(entry, name), getattr(now, name)
        if len(there) != len(counted) or sum(map(abs, map(int.__sub__, there, counted))) > 2 * now.close:
            yield f"{name} {shortened(list(there))} in the file, {shortened(list(counted))} counted"


def _wrong_identities(bench: BenchFile) -> Iterator[str]:
    """Attacks whose text has another digest, and the clean image with passes or a radius."""
    for digest, identity in bench.attacks.items():
        if identity_digest(identity) != digest:
            yield f"the settings of attack {digest} are not those that its digest is of"
    for entry in bench.entries:
        says = {entry.attack == CLEAN, entry.attack_digest == CLEAN, entry.eps is None}
        if len(says) != 1 or (entry.eps is None and (entry.num_forwards or entry.num_backwards or entry.norm)):
            yield f"{_place(bench, entry)}: it is named clean, or has no radius, and is a perturbation or has passes"


def _wrong_cells(bench: BenchFile) -> Iterator[str]:
    """Cells that do not name the worst of the file's witnesses, or whose numbers are not those of them."""
    for image, witness in zip(bench.images, bench.norms, strict=True):
        least = choose_norm(bench.entries_of[image.sample_id])
        stated = None if witness is None else bench.by_witness[witness]
        if stated is not None and not stated.breaks:
            yield f"{_place(bench, stated)}: slack {stated.slack} is below the {stated.close} pixels too close to call"
        elif (None if least is None else least.norm) != (None if stated is None else stated.norm):
            yield f"image {image.sample_id} ({image.name}): the norm is not the smallest of the file's witnesses"
    for cell in bench.radii:
        where = f"radius {cell.eps:.6g}"
        for name, witnesses, total in (
            ("accuracy", cell.worst_accuracy, accuracy_of),
            ("miou", cell.worst_miou, miou_of),
        ):
            entries = [bench.by_witness[witness] for witness in witnesses]
            outside = [entry for entry in entries if not entry.within(cell.eps)]
            yield from (f"{where}: {_place(bench, each)} has norm {each.norm:.6g}" for each in outside)
            if not isclose(getattr(cell, name), total(entries), rel_tol=_EXACT, abs_tol=_EXACT):
                yield f"{where}: {name} {getattr(cell, name):.9g} in the file, {total(entries):.9g} by its counts"
        for image, witness in zip(bench.images, cell.worst_accuracy, strict=True):
            inside = [entry.correct for entry in bench.entries_of[image.sample_id] if entry.within(cell.eps)]
            if inside and min(inside) < bench.by_witness[witness].correct:
                yield f"{where}: image {image.sample_id} ({image.name}) has a witness that leaves fewer correct pixels"


def _all_cells(bench: BenchFile) -> Iterable[Sequence[str]]:
    yield [witness for witness in bench.norms if witness is not None]
    for cell in bench.radii:
        yield from (cell.worst_accuracy, cell.worst_miou)


def _counts(found: Entry | Judged) -> tuple[object, ...]:
    return found.slack, found.tp, found.fp, found.fn


def _place(bench: BenchFile, entry: Entry) -> str:
    image = bench.image_of[entry.sample_id]
    return f"image {image.sample_id} ({image.name}), witness {entry.witness[:8]} of {entry.attack} at {entry.eps}"
