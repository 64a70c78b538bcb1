"""Bench files of anybody: read, and refused where their fields contradict each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from segrobust.evaluation.bench.bench_file import BenchFile, Entry, bench_files
from segrobust.evaluation.numbers.envelope import KnownNorms
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import shortened


def read_bench(path: Path) -> BenchFile:
    """Reads a bench file; whether it says the truth is asked by `verify_bench`.

    Raises:
        DataFault: as `BenchFile.read`, or fields that contradict each other; see `contradictions`.
        FileNotFoundError: it is missing.
    """
    found = BenchFile.read(path)
    try:
        problem = next(contradictions(found, path), None)
    except ValueError as error:
        raise DataFault(f"{path}: {error}") from error
    if problem is not None:
        raise DataFault(f"{path} contradicts itself: {problem}")
    return found


def norms_of_bench(folder: Path) -> list[KnownNorms]:
    """The smallest norms of a bench as its files state them, for the envelope of a comparison.

    Raises:
        ValueError: the folder holds no bench, or damaged files.
    """
    return [
        KnownNorms(
            source=f"bench {bench.network}",
            target=(bench.weights, bench.preprocessing, bench.criterion),
            norm_name=bench.norm_name,
            norms={image.sample: bench.envelope[image.sample_id] for image in bench.images},
        )
        for bench in map(read_bench, bench_files(folder))
    ]


def contradictions(bench: BenchFile, path: Path) -> Iterator[str]:
    """What no file that `write` wrote has, one sentence each."""
    assert bench.untargeted
    if bench.path(path.parent) != path:
        yield f"it is named {shortened(path.name)} and is of network {bench.network} in {bench.norm_name}"
    ids = [image.sample_id for image in bench.images]
    if len({*ids}) != len(ids) or len(bench.by_witness) != len(bench.entries):
        yield "an image or a witness is listed twice"
    if [cell.eps for cell in bench.radii] != sorted({cell.eps for cell in bench.radii}):
        yield "its radii are not in ascending order"
    if bench.named != bench.by_witness.keys():
        yield "its cells name other witnesses than it lists"
        return
    valid = {image.sample_id: image.num_valid for image in bench.images}
    for entry in bench.entries:
        yield from _wrong_entry(bench, entry, valid)
    for name, cells in _cells(bench):
        if len(cells) != len(ids):
            yield f"{name} has {len(cells)} cells for {len(ids)} images"
        else:
            for sample_id, witness in zip(ids, cells, strict=True):
                if witness is not None and bench.by_witness[witness].sample_id != sample_id:
                    yield f"{name} of image {sample_id} names a witness of another image"


def _wrong_entry(bench: BenchFile, entry: Entry, valid: Mapping[int, int]) -> Iterator[str]:
    where = f"witness {entry.witness}"
    if entry.sample_id not in valid:
        yield f"{where} is of image {entry.sample_id}, which is not listed"
        return
    if {len(entry.tp), len(entry.fp), len(entry.fn)} != {bench.num_classes}:
        yield f"{where} has counts of {len(entry.tp)} classes, and the network {bench.num_classes}"
    if sum(entry.tp) + sum(entry.fn) != valid[entry.sample_id] or sum(entry.fp) != sum(entry.fn):
        yield f"the counts of {where} are not those of {valid[entry.sample_id]} valid pixels"
    if entry.eps is not None and entry.attack_digest not in bench.attacks:
        yield f"the attack of {where} is not listed"


def _cells(bench: BenchFile) -> Iterator[tuple[str, tuple[str | None, ...]]]:
    """All cells that name witnesses, with a name for messages."""
    yield "the norm", bench.norms
    for cell in bench.radii:
        yield f"the accuracy at {cell.eps:.6g}", cell.worst_accuracy
        yield f"the mIoU at {cell.eps:.6g}", cell.worst_miou
