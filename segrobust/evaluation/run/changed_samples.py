"""Samples whose image or mask is not the one that records are of: found, refused, or measured anew."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console

from segrobust.evaluation.dataset import SampleSource, load_sample, name_of, sequence_of
from segrobust.evaluation.run.records import Record, name_samples, supersede
from segrobust.untrusted.regular_files import remove

_QUIET_SECONDS: Final = 3.0
"""Reading that takes longer shows its progress."""


class ChangedSampleError(ValueError):
    """Images or masks are not those that records are of; the message names the samples and the ways out."""


def find_changed(records: Iterable[Record], digests: Mapping[int, str]) -> dict[int, str]:
    """Names of the samples that are not what their records are of, by sample id.

    Args:
        records: of earlier commands; those without a digest are compared with nothing.
        digests: of the samples as they are now; those that are missing here are not compared.
    """
    return {
        record.sample_id: record.sample_name
        for record in records
        if record.sample_digest and digests.get(record.sample_id, record.sample_digest) != record.sample_digest
    }


def require_unchanged(records: Iterable[Record], digests: Mapping[int, str]) -> None:
    """Refuses samples that are not what their records are of.

    Args:
        records: of earlier commands.
        digests: of the samples as they are now.

    Raises:
        ChangedSampleError: images or masks changed.
    """
    changed = find_changed(records, digests)
    if changed:
        raise ChangedSampleError(
            f"the image or the mask of {name_samples(changed)} is not the one that the records here are of: files, "
            "transforms, or the libraries that decode and resize changed. Numbers of old and new data must not be "
            "mixed: use a new run directory, bring the data back, or measure these samples anew with redo_changed=True "
            "(--redo_changed true)"
        )


def require_same_names(records: Iterable[Record], dataset: SampleSource, *, by_name: bool) -> None:
    """Refuses names of samples and recordings that changed where numbers depend on them.

    Args:
        records: of earlier commands.
        dataset: the samples.
        by_name: whether names of samples count, because targets are chosen by them.

    Raises:
        ChangedSampleError: samples have other names, or are of other recordings, over which intervals are computed. A
            recording that is the sample itself may be renamed with it.
    """
    for record in records:
        name, sequence = name_of(dataset, record.sample_id), sequence_of(dataset, record.sample_id)
        there, now = record.sample_name, name
        if not by_name:
            there, now = (own if own != its else "" for own, its in ((record.sequence, there), (sequence, name)))
        if there != now:
            what = "name" if by_name else "recording"
            raise ChangedSampleError(
                f"the {what} of sample {record.sample_id} was {there or 'its own'} and is {now or 'its own'}, and the "
                "numbers depend on it: use a new run directory, or the names as they were"
            )


def require_repeatable(dataset: SampleSource, sample_ids: Iterable[int]) -> None:
    """Refuses a data set that gives something else each time that a sample is read, by one sample.

    Raises:
        ValueError: two readings of the first readable sample differ.
    """
    for sample_id in sample_ids:
        try:
            first, second = (load_sample(dataset, sample_id).digest for _ in range(2))
        except (OSError, ValueError):
            continue
        if first != second:
            raise ValueError(
                f"sample {sample_id} ({name_of(dataset, sample_id)}) is another image or mask each time that it is "
                "read: turn random augmentation off in the data set that is evaluated"
            )
        return


def read_digests(
    dataset: SampleSource,
    sample_ids: Iterable[int],
    *,
    skip_unreadable: bool,
    progress: bool,
    stop: Callable[[], bool],
) -> dict[int, str]:
    """Digests of samples as they are now, by sample id; see `LoadedSample.digest`.

    Args:
        dataset: the samples.
        sample_ids: their positions.
        skip_unreadable: whether samples that cannot be read are left out.
        progress: whether to show how far it is on stderr, if it takes more than a few seconds.
        stop: asked before each sample; True leaves the remaining ones out.

    Raises:
        ValueError: a sample cannot be read.
    """
    wanted, digests = tuple(sample_ids), {}
    shown = time.monotonic()
    for number, sample_id in enumerate(wanted):
        if stop():
            break
        if progress and time.monotonic() - shown > _QUIET_SECONDS:
            shown = time.monotonic()
            line = f"comparing recorded samples with the data: {number} of {len(wanted)}"
            Console(stderr=True, highlight=False).print(line, markup=False)
        try:
            digests[sample_id] = load_sample(dataset, sample_id).digest
        except (OSError, ValueError) as error:
            if not skip_unreadable:
                raise ValueError(
                    f"image {sample_id} ({name_of(dataset, sample_id)}) cannot be read: {error}; repair it, or leave "
                    "such images out by skip_unreadable"
                ) from error
    return digests


def discard_samples(directory: str | os.PathLike[str], digests: Mapping[int, str]) -> None:
    """Takes what is known of samples out of a run directory: they are measured anew.

    Their lines stay in the files of records and count no more; adversarial images and panels of them, and checks of the
    network and of attacks, which may be of them, are deleted.

    Args:
        directory: the run directory.
        digests: of the samples as they are now, by sample id.

    Raises:
        OSError: the directory cannot be written.
    """
    root = Path(directory)
    supersede(directory, digests)
    remove(root / "checks", root=root)
    for sample_id in digests:
        number = f"{sample_id:06d}"
        for files in (f"adversarials/*/*/{number}.safetensors", f"panels/{number}-*.png", f"panels/tiles/{number}-*"):
            for path in root.glob(files):
                remove(path, root=root)
