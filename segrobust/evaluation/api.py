"""Evaluation in one call."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from segrobust.attacks import Attack
from segrobust.evaluation.adversarials import AdversarialStore
from segrobust.evaluation.estimate import estimate, measure_passes
from segrobust.evaluation.judging import device_of, precision_of
from segrobust.evaluation.manifest import Manifest
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.plan import Plan, PresetName, plan_attacks
from segrobust.evaluation.plan import preset as preset_plan
from segrobust.evaluation.progress import show_progress
from segrobust.evaluation.records import Record, RecordWriter, merge_records, read_records
from segrobust.evaluation.reporting.panel_files import write_panels
from segrobust.evaluation.reporting.report import Report, heading, summarize_run
from segrobust.evaluation.run_directory import Provenance, RunDirectory, device_name
from segrobust.evaluation.runner import run
from segrobust.evaluation.samples import SampleSource, label_space_of, load_sample
from segrobust.evaluation.work import StridedWork, choose_samples


def evaluate(
    network: nn.Module,
    dataset: SampleSource,
    *,
    preset: PresetName | None = None,
    plan: Plan | None = None,
    attacks: Mapping[str, Attack] | None = None,
    eps: Sequence[float] | None = None,
    max_images: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    ignore_index: int | None = None,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    panels: int = 4,
    progress: bool = True,
    keep_adversarials: bool = False,
    dry_run: bool = False,
) -> Report:
    """Attacks a network on a data set and reports what is left of it.

    With a run directory each result is written when it exists, and the same call continues where a killed one stopped,
    with any number of processes; with one more attack it adds that attack. The directory then holds the manifest, the
    records, `summary.json`, curves, and panels of a few images.

    Several processes (`rank`, `world_size`) share a run by sharing the directory; they never wait for each other, and
    the one that finishes last writes the summary. `summarize_run` makes it again from the files.

    Args:
        network: maps images in [0, 1] to logits `(B, K, H, W)`; see `segrobust.networks` for wrappers.
        dataset: items with `image` `(3, H, W)` in [0, 1] and `mask` `(H, W)`, or tuples of the two.
        preset: "validation", "quick", "standard" (where neither `plan` nor `attacks` is given) or "thorough"; see
            `preset`.
        plan: attacks with radii, in the place of a preset.
        attacks: attacks by name, in the place of a preset.
        eps: radii for `attacks`; None for 1, 2, 4 and 8/255.
        max_images: a random subset of so many images, which depends on `seed` alone; larger subsets contain smaller
            ones. None for all.
        run_dir: where files go; None to keep nothing, and no panels.
        batch_size: images that are attacked together.
        device: where to work; the network is moved there. None for where it is.
        ignore_index: label of void pixels; None for that of the data set's label space, else 255.
        seed: of the subset and of random starts.
        rank: number of this process.
        world_size: number of processes.
        panels: images to draw, from the same subset for every attack.
        progress: whether to show settings before the work, and progress, on stderr.
        keep_adversarials: whether to keep the adversarial images of all samples, not only of the panels.
        dry_run: only measure a pass and estimate the time; nothing is written.

    Raises:
        ValueError: arguments that contradict each other, a run directory that cannot be written or holds results of
            something else, or data and a network that do not fit.
        TypeError: samples or a network output of the wrong type.
        FloatingPointError: the network returned NaN.
    """
    session = _Session(
        network=network if device is None else network.to(device),
        dataset=dataset,
        plan=_choose_plan(preset, plan, attacks, eps),
        samples=choose_samples(len(dataset), max_images, seed),
        ignore_index=_choose_ignore_index(dataset, ignore_index),
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world_size=world_size,
        progress=progress and rank == 0,
    )
    if dry_run:
        return session.estimate()
    if run_dir is not None:
        drawn = choose_samples(len(dataset), panels, seed) if panels else ()
        return session.run_in(RunDirectory(Path(run_dir)), drawn, keep_adversarials)
    if world_size > 1 or keep_adversarials:
        raise ValueError("several processes, and adversarial images that are kept, need files: give a run_dir")
    return session.run_in_memory()


def _choose_plan(
    preset: PresetName | None,
    plan: Plan | None,
    attacks: Mapping[str, Attack] | None,
    eps: Sequence[float] | None,
) -> Plan:
    given = [name for name, value in (("preset", preset), ("plan", plan), ("attacks", attacks)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"give one of preset, plan and attacks, got {' and '.join(given)}")
    if eps is not None and attacks is None:
        raise ValueError(f"eps={tuple(eps)} has an effect on `attacks` only; presets and plans have their own radii")
    if attacks is not None:
        return plan_attacks(attacks, eps)
    return preset_plan(preset or "standard") if plan is None else plan


def _choose_ignore_index(dataset: SampleSource, ignore_index: int | None) -> int:
    space = label_space_of(dataset)
    if space is None:
        return 255 if ignore_index is None else ignore_index
    if ignore_index not in (None, space.ignore_index):
        raise ValueError(
            f"ignore_index={ignore_index} contradicts the data set's label space, where void is {space.ignore_index}; "
            "leave it out"
        )
    return space.ignore_index


@dataclass(frozen=True, kw_only=True)
class _Session:
    """One call of `evaluate`, its arguments resolved."""

    network: nn.Module
    dataset: SampleSource
    plan: Plan
    samples: tuple[int, ...]
    ignore_index: int
    batch_size: int
    seed: int
    rank: int
    world_size: int
    progress: bool

    @cached_property
    def work(self) -> StridedWork:
        return StridedWork(self.samples, self.rank, self.world_size)

    @cached_property
    def manifest(self) -> Manifest:
        """What this call gives results of. Reads the first image."""
        return Manifest.of(
            self.network,
            self.dataset,
            self.plan,
            samples=self.samples,
            ignore_index=self.ignore_index,
            seed=self.seed,
        )

    def estimate(self) -> Report:
        """The time that a full run takes, from one measured pass."""
        seconds = self._measure()
        num_images = len(tuple(self.work))
        return Report(
            records=(),
            summary=summarize(()),
            heading=heading(self.manifest),
            estimate=estimate(self.plan, num_images, *seconds),
        )

    def run_in_memory(self) -> Report:
        """Keeps nothing."""
        self._measure()
        self._announce(None)
        records = merge_records(self._records((), None, None))
        return Report(records=records, summary=summarize(records), heading=heading(self.manifest))

    def run_in(self, directory: RunDirectory, drawn: tuple[int, ...], keep_all: bool) -> Report:
        """Keeps records, and adversarial images of the samples `drawn` or of all; draws the former."""
        directory.claim(self.manifest)
        self._measure()
        self._announce(directory)
        if self.rank == 0:
            directory.append_provenance(
                Provenance.now(device=device_of(self.network), batch_size=self.batch_size, world_size=self.world_size)
            )
        store = AdversarialStore(directory.path, None if keep_all else drawn)
        with RecordWriter(directory.path, self.rank) as writer:
            deque(self._records(read_records(directory.path), writer, store), maxlen=0)
        mine = [sample_id for sample_id in self.work if sample_id in drawn]
        write_panels(self.network, self.dataset, self.plan, directory, store, mine, self.ignore_index)
        return summarize_run(directory.path)

    def _records(
        self, done: tuple[Record, ...], writer: RecordWriter | None, store: AdversarialStore | None
    ) -> Iterator[Record]:
        """Records that are missing, with progress."""
        mine = {*self.work}
        records = run(
            self.network,
            self.dataset,
            self.plan,
            work=self.work,
            batch_size=self.batch_size,
            seed=self.seed,
            ignore_index=self.ignore_index,
            done=done,
            writer=writer,
            store=store,
        )
        if not self.progress:
            return records
        return show_progress(records, self.plan, [r for r in done if r.sample_id in mine], len(mine))

    def _measure(self) -> tuple[float, float]:
        """Seconds of a forward and a backward pass on one image; also whether network and data fit at all."""
        sample = load_sample(self.dataset, self.samples[0])
        device, dtype = device_of(self.network), precision_of(self.network)
        images, masks = sample.image[None].to(device, dtype), sample.mask[None].to(device)
        forward, backward, num_classes = measure_passes(self.network, images, masks, self.ignore_index)
        space = label_space_of(self.dataset)
        if space is not None and space.num_classes != num_classes:
            raise ValueError(
                f"the network tells {num_classes} classes apart, the data set has {space.num_classes} "
                f"({', '.join(space.names[:4])}, ...): use data and weights that belong together"
            )
        return forward, backward

    def _announce(self, directory: RunDirectory | None) -> None:
        """Says what will be done, before it is done."""
        if not self.progress:
            return
        device = device_of(self.network)
        lines = [
            heading(self.manifest),
            f"{device_name(device)}, {torch.get_num_threads()} threads, batches of {self.batch_size}, "
            f"{self.world_size} process{'es' if self.world_size > 1 else ''}",
            *(f"{job.name}: {job.attack!r}" for job in self.plan.jobs),
            f"run directory: {'none, nothing is kept' if directory is None else directory.path}",
        ]
        Console(stderr=True, highlight=False).print("\n".join(lines), markup=False, soft_wrap=True)
