"""One call of `evaluate`: who does what, in which order, with which files."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from rich.console import Console
from torch import nn

from segrobust.attacks import Criterion, Untargeted
from segrobust.evaluation.checks import Check, check_attacks, check_network, check_records, write_checks
from segrobust.evaluation.dataset import SampleSource, first_readable, label_space_of, target_maps
from segrobust.evaluation.engine.runner import run
from segrobust.evaluation.engine.runtime_estimate import estimate, measure_passes
from segrobust.evaluation.engine.work import StridedWork, WorkSource
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.evaluation.jobs.distributed import Distributed, Team
from segrobust.evaluation.jobs.progress_bar import show_progress
from segrobust.evaluation.jobs.signals import interruptible
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.plan import Plan
from segrobust.evaluation.reporting.figures.panel_files import write_panels
from segrobust.evaluation.reporting.notable import notable_samples
from segrobust.evaluation.reporting.report import Report, heading, is_complete, summarize_run, write_report
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.failures import FaultLog
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import Record, RecordWriter, merge_records, read_records
from segrobust.evaluation.run.run_directory import Provenance, RunDirectory, device_name

CheckLevel = Literal["basic", "thorough", "off"]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One call of `evaluate`, its arguments resolved."""

    network: nn.Module
    dataset: SampleSource
    plan: Plan
    samples: tuple[int, ...]
    ignore_index: int
    batch_size: int
    seed: int
    distributed: Distributed
    checks: CheckLevel
    progress: bool

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
        return Report(
            records=(),
            summary=summarize(()),
            heading=heading(self.manifest),
            estimate=estimate(self.plan, -(-len(self.samples) // self.distributed.world_size), *seconds),
        )

    def run_in_memory(self) -> Report:
        """Keeps nothing."""
        self._measure()
        self._announce(None)
        work = StridedWork(self.samples, batch_size=self.batch_size)
        records = merge_records(self._shown(self._run(work), (), self.samples, None))
        found = () if self.checks == "off" else (*self._check_network(), *self._check_records(records))
        return Report(
            records=records,
            summary=summarize(records, asr_only=self.plan.asr_only),
            heading=heading(self.manifest),
            checks=found,
        )

    def run_in(self, directory: RunDirectory, drawn: tuple[int, ...], keep_all: bool, skip_unreadable: bool) -> Report:
        """Keeps records, and adversarial images of the samples `drawn` or of all; draws the former."""
        directory.claim(self.manifest)
        self._measure()
        self._announce(directory)
        if self.distributed.is_main:
            self._introduce(directory)
        faults = FaultLog(directory.path, self.distributed.rank, skip_unreadable)
        with (
            interruptible() as stop,
            RecordWriter(directory.path, self.distributed.rank) as writer,
            self._gathered(directory) as team,
        ):
            done = read_records(directory.path)
            if team is not None:
                done = team.exchange(done)
            store = AdversarialStore(directory.path, None if keep_all else drawn)
            settings = {"writer": writer, "store": store, "faults": faults, "stop": stop}
            deque(self._work(team, done, settings), maxlen=0)
            if team is not None and not stop():
                known = merge_records([*done, *read_records(directory.path)])
                others = team.finish(known, stop)
                if self.distributed.is_main:
                    _write_missing(directory, writer, (*known, *others))
                    left = StridedWork(self.samples, batch_size=self.batch_size)  # behind by lost processes
                    deque(self._run(left, done=read_records(directory.path), **settings), maxlen=0)
            if not stop() and self._concludes(directory):
                self._conclude(directory, drawn, faults)
        report = replace(summarize_run(directory.path), interrupted=stop.signal)
        if team is not None and not self.distributed.is_main:
            # The directory of this process may lack what others made: process 0 reports what is missing.
            return replace(report, missing=0)
        return report

    @contextmanager
    def _gathered(self, directory: RunDirectory) -> Iterator[Team | None]:
        """The team of this process; None where it works alone or knows of the others by their files only."""
        if self.distributed.store is None:
            yield None
        else:
            with Team.gathered(self.distributed, directory.path) as team:
                yield team

    def _work(self, team: Team | None, done: tuple[Record, ...], settings: dict[str, Any]) -> Iterator[Record]:
        """Measures what is missing, with progress and signs of life."""
        if team is not None:
            records = self._run(team.work(self.samples, self.batch_size), done=done, **settings)
            return self._shown(records, done, self.samples, team.count)
        share = StridedWork(self.samples, self.distributed.rank, self.distributed.world_size, self.batch_size)
        return self._shown(self._run(share, done=done, **settings), done, [i for batch in share for i in batch], None)

    def _concludes(self, directory: RunDirectory) -> bool:
        """Whether this process makes the report: the one that speaks for all, or without a store the last one."""
        return self.distributed.is_main if self.distributed.store is not None else is_complete(directory)

    def _conclude(self, directory: RunDirectory, drawn: tuple[int, ...], faults: FaultLog) -> None:
        """Checks the attacks, draws panels, and writes the report.

        Adversarial images of the worst and the median image, and of what other machines drew, were not kept: these
        attacks are run once more, and their records stay as they are.
        """
        records = read_records(directory.path)
        path = directory.attack_checks(self.manifest.planned)
        if self.checks == "thorough" and not path.exists():
            found = check_attacks(
                self.network,
                self.dataset,
                self.plan,
                self._probes,
                records,
                ignore_index=self.ignore_index,
                seed=self.seed,
            )
            path.parent.mkdir(exist_ok=True)
            write_checks(path, found, weights=self.manifest.weights)
        if drawn:
            shown = sorted({*drawn, *notable_samples(records).values()} & {*self.samples})
            store = AdversarialStore(directory.path, shown)
            deque(
                self._run(StridedWork(shown, batch_size=self.batch_size), done=records, store=store, faults=faults),
                maxlen=0,
            )
            write_panels(self.network, self.dataset, self.plan, directory, store, shown, self.ignore_index)
        write_report(directory)

    def _introduce(self, directory: RunDirectory) -> None:
        """Says who works here, and checks the network before time is spent on it."""
        directory.append_provenance(
            Provenance.now(
                device=device_of(self.network), batch_size=self.batch_size, world_size=self.distributed.world_size
            )
        )
        if self.checks == "off" or directory.network_checks.exists():
            return
        found = self._check_network()
        directory.network_checks.parent.mkdir(exist_ok=True)
        write_checks(directory.network_checks, found, weights=self.manifest.weights)
        if self.progress:
            for check in found:
                if check.status != "ok":
                    line = f"check {check.name}: {check.status}: {check.detail} {check.mend}"
                    Console(stderr=True, highlight=False).print(line, markup=False, soft_wrap=True)

    @property
    def _probes(self) -> tuple[int, ...]:
        """The images that checks look at: the first ones that can be read."""
        first = first_readable(self.dataset, self.samples).sample_id
        rest = [sample_id for sample_id in self.samples if sample_id > first]
        if not rest:
            return (first,)
        try:
            return first, first_readable(self.dataset, rest).sample_id
        except ValueError:
            return (first,)

    def _check_network(self) -> tuple[Check, ...]:
        return check_network(
            self.network,
            self.dataset,
            self._probes,
            ignore_index=self.ignore_index,
            criterion=_network_criterion(self.plan),
        )

    def _check_records(self, records: tuple[Record, ...]) -> tuple[Check, ...]:
        return check_records(records, {job.digest: job.identity for job in self.plan.jobs})

    def _run(self, work: WorkSource, **settings: Any) -> Iterator[Record]:
        """The engine with what all its runs share."""
        return run(
            self.network,
            self.dataset,
            self.plan,
            work=work,
            seed=self.seed,
            ignore_index=self.ignore_index,
            **settings,
        )

    def _shown(
        self,
        records: Iterator[Record],
        done: tuple[Record, ...],
        sample_ids: Sequence[int],
        count: Callable[[Record], int] | None,
    ) -> Iterator[Record]:
        """The records, with progress on stderr where it is wanted; `count` tells what all processes have made."""
        if self.progress:
            wanted = {*sample_ids}
            done = tuple(record for record in done if record.sample_id in wanted)
            return show_progress(records, self.plan, done, len(wanted), count)
        if count is None:
            return records
        return (record for record in records if count(record))

    def _measure(self) -> tuple[float, float]:
        """Seconds of a forward and a backward pass on one image; also whether network, data and targets fit at all."""
        sample = first_readable(self.dataset, self.samples)
        device, dtype = device_of(self.network), precision_of(self.network)
        images, masks = sample.image[None].to(device, dtype), sample.mask[None].to(device)
        if self.plan.targets is not None:
            target_maps(
                self.plan.targets, self.network, self.dataset, (sample.sample_id,), images, masks, self.ignore_index
            )
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
            f"{self.distributed.world_size} process{'es' if self.distributed.world_size > 1 else ''}",
            *(f"{job.name}: {job.identity}" for job in self.plan.jobs),
            f"run directory: {'none, nothing is kept' if directory is None else directory.path}",
        ]
        Console(stderr=True, highlight=False).print("\n".join(lines), markup=False, soft_wrap=True)


def _network_criterion(plan: Plan) -> Criterion:
    """What checks of the network judge by: whether it hides its gradient has nothing to do with targets."""
    return plan.criterion if plan.targets is None else Untargeted(apsr=plan.criterion.apsr)


def _write_missing(directory: RunDirectory, writer: RecordWriter, records: tuple[Record, ...]) -> None:
    """Keeps the records of processes that have other directories."""
    present = {record.key for record in read_records(directory.path)}
    missing = [record for record in merge_records(records) if record.key not in present]
    if missing:
        writer.write(missing)
