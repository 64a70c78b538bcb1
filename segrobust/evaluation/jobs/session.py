"""One evaluation in one of its processes: its settings, its share of the work, and the records of the others."""

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from rich.console import Console
from torch import nn
from torch.distributed import DistError

from segrobust.attacks import Untargeted
from segrobust.evaluation.checks import WIRING_IMAGES, Check, check_network, check_wiring
from segrobust.evaluation.dataset import SampleSource, first_readable
from segrobust.evaluation.engine.runner import Outputs, never_stops, run
from segrobust.evaluation.engine.work import StridedWork, WorkSource
from segrobust.evaluation.jobs.distributed import Distributed, JobEndedError, StopRequestedError, Team
from segrobust.evaluation.jobs.progress import PROGRESS_FILE, Progress, ProgressLines
from segrobust.evaluation.jobs.progress_bar import ProgressBars
from segrobust.evaluation.jobs.signals import Interruption
from segrobust.evaluation.jobs.silence import LoneWatch, Stage, Work, stage
from segrobust.evaluation.plan import Plan
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.changed_samples import (
    discard_samples,
    find_changed,
    read_digests,
    require_same_names,
    require_unchanged,
)
from segrobust.evaluation.run.claim import Claim
from segrobust.evaluation.run.consistency import read_run_records
from segrobust.evaluation.run.failures import FaultLog
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import CLEAN, Key, Record, RecordWriter, merge_records, read_records

_SIGNAL_DELAY: Final = 3.0
"""Seconds by which a signal to all processes may reach this one after process 0 has ended by it."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One evaluation, its arguments resolved; run by `evaluate`, by `evaluate_stored` and by the callback.

    Attributes:
        network: maps images in [0, 1] to logits.
        dataset: the samples.
        plan: attacks and radii.
        samples: positions of the samples to evaluate, of all processes.
        ignore_index: label of void pixels.
        batch_size: images that are attacked together.
        seed: of random starts.
        distributed: this process among the others.
        stored: adversarial images of an earlier run that attacks `Stored` evaluate; None for other attacks.
        weights: digest of the network's weights, if it is known already.
        progress: whether to show progress on stderr.
    """

    network: nn.Module
    dataset: SampleSource
    plan: Plan
    samples: tuple[int, ...]
    ignore_index: int
    batch_size: int
    seed: int
    distributed: Distributed
    stored: AdversarialStore | None = None
    weights: str | None = None
    progress: bool = False

    @cached_property
    def manifest(self) -> Manifest:
        """Identifies what is evaluated. Reads the first image."""
        return Manifest.of(
            self.network,
            self.dataset,
            self.plan,
            samples=self.samples,
            ignore_index=self.ignore_index,
            seed=self.seed,
            weights=self.weights,
        )

    @property
    def share(self) -> StridedWork:
        """The fixed share of this process, batch by batch."""
        return StridedWork(self.samples, self.distributed.rank, self.distributed.world_size, self.batch_size)

    @property
    def shared_samples(self) -> tuple[int, ...]:
        """Positions of the samples in the fixed share of this process."""
        return tuple(sample_id for batch in self.share for sample_id in batch)

    def recorded_share(self, path: Path) -> tuple[Record, ...]:
        """Records in a folder that belong to the plan and to the fixed share of this process.

        Raises:
            ChangedSampleError: images or masks are not those that the records are of.
            ValueError: a sample cannot be read.
        """
        mine, calls = {*self.shared_samples}, self.plan.attack_calls
        wanted = {(CLEAN, None), *((call.job.digest, eps) for call in calls for eps in call.recorded)}
        records = read_run_records(path)
        found = tuple(each for each in records if each.sample_id in mine and (each.digest, each.eps) in wanted)
        self._compare(found, skip_unreadable=False, stop=never_stops)
        return found

    def compare_samples(
        self,
        path: Path,
        *,
        skip_unreadable: bool = False,
        redo_changed: bool = False,
        stop: Callable[[], bool] = never_stops,
    ) -> None:
        """Compares every recorded sample with what the data set gives now.

        Args:
            path: the folder of the records.
            skip_unreadable: whether samples that cannot be read now are passed over.
            redo_changed: whether changed samples are measured anew: their records count no more, and their adversarial
                images and all checks of attacks are deleted.
            stop: asked before each sample; True leaves the remaining ones to the next command.

        Raises:
            ChangedSampleError: images or masks changed, and `redo_changed` is False; or names that numbers depend on.
            ValueError: a sample cannot be read.
        """
        wanted = {*self.samples}
        records = tuple(record for record in read_run_records(path) if record.sample_id in wanted)
        changed = self._compare(records, skip_unreadable=skip_unreadable, stop=stop, allow=redo_changed)
        if changed:
            discard_samples(path, changed)

    def _compare(
        self, records: Sequence[Record], *, skip_unreadable: bool, stop: Callable[[], bool], allow: bool = False
    ) -> dict[int, str]:
        """Present digests of the recorded samples that changed; refuses these unless they are allowed."""
        wanted = dict.fromkeys(record.sample_id for record in records)
        digests = read_digests(self.dataset, wanted, skip_unreadable=skip_unreadable, progress=self.progress, stop=stop)
        if not allow:
            require_unchanged(records, digests)
        changed = find_changed(records, digests)
        unchanged = (record for record in records if record.sample_id not in changed)
        require_same_names(unchanged, self.dataset, by_name=self.plan.targets is not None)
        return {sample_id: digests[sample_id] for sample_id in changed}

    def measure(
        self,
        work: WorkSource,
        outputs: Outputs = Outputs(),  # noqa: B008  frozen
        *,
        done: Sequence[Record] = (),
    ) -> tuple[Record, ...]:
        """Makes the missing records of some work.

        Args:
            work: the samples.
            outputs: where results are written.
            done: records that exist already.

        Returns:
            The new records, in the order in which they were made.
        """
        return tuple(
            run(
                self.network,
                self.dataset,
                self.plan,
                work=work,
                seed=self.seed,
                ignore_index=self.ignore_index,
                done=done,
                outputs=outputs,
                stored=self.stored,
            )
        )

    def watch(self, sample_ids: Sequence[int], done: Sequence[Record] = (), file: Path | None = None) -> Progress:
        """Counts the work, and shows it on stderr if `progress` is set: bars in a terminal or notebook, else lines.

        Args:
            sample_ids: the samples whose progress is shown.
            done: records that exist already.
            file: JSON file of the same numbers; only process 0 writes it.
        """
        processes, console = self.distributed.world_size, Console(stderr=True, highlight=False)
        file = file if self.distributed.is_main else None
        if self.progress and _shows_bars(console):
            return ProgressBars(self.plan, sample_ids, done, file=file, processes=processes)
        if self.progress:

            def say(line: str) -> None:
                console.print(line, markup=False, soft_wrap=True)

            return ProgressLines(self.plan, sample_ids, done, say=say, file=file, processes=processes)
        return Progress(self.plan, sample_ids, done, file=file, processes=processes)

    def complete(
        self,
        claim: Claim,
        *,
        prepare: Callable[[Stage], None],
        store: AdversarialStore | None,
        faults: FaultLog,
        is_complete: Callable[[], bool],
        conclude: Callable[[Stage], None],
        stop: Interruption,
    ) -> None:
        """Makes the records that a folder lacks, together with the other processes.

        The processes watch each other from before the first pass of the network to the end of the report.

        Args:
            claim: holds the folder.
            prepare: called once before the work, by every process, with what it enters; it writes the manifest.
            store: stores adversarial images.
            faults: records errors of single images.
            is_complete: whether nothing is missing; called by processes without a common store.
            conclude: called once when the work is done, by the main process or, without a store, by the last one, with
                what it enters.
            stop: whether a signal arrived, before the work or during it.
        """
        path, rank = claim.directory, self.distributed.rank
        outputs = Outputs(store=store, faults=faults, stop=stop)
        if self.distributed.store is None:
            with LoneWatch(rank, self.distributed.stalled_after) as watch:
                self._prepare(watch.follow, prepare)
                with RecordWriter(path, rank, claim=claim) as writer:
                    self._work_alone(path, replace(outputs, writer=writer), watch)
                    claim.require_unchanged()
                    if not stop() and is_complete():
                        self._conclude(watch.follow, conclude)
            return
        try:
            with Team.gathered(self.distributed, path, stop) as team:
                before = {record.key for record in read_records(path)}
                self._prepare(team.heartbeat.follow, prepare)
                with RecordWriter(path, rank, claim=claim) as writer:
                    self._work_together(team, path, replace(outputs, writer=writer), writer, before)
                    claim.require_unchanged()
                    if not stop() and self.distributed.is_main:
                        self._conclude(team.heartbeat.follow, conclude)
        except StopRequestedError:
            return
        except JobEndedError as error:
            Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        except DistError:
            # Process 0 may hold the store, and end by the signal that this process is still to receive.
            waited_since = time.monotonic()
            while not stop() and time.monotonic() - waited_since < _SIGNAL_DELAY:
                time.sleep(0.05)
            if not stop():
                raise

    @staticmethod
    def _prepare(follow: Callable[[Work | None], None], prepare: Callable[[Stage], None]) -> None:
        with stage(follow, "the comparison with the run directory", "all attacks of this command are missing") as now:
            prepare(now)

    @staticmethod
    def _conclude(follow: Callable[[Work | None], None], conclude: Callable[[Stage], None]) -> None:
        with stage(follow, "the report", "the records are complete, the report is missing") as now:
            now.rest()
            conclude(now)

    def _work_alone(self, path: Path, outputs: Outputs, watch: LoneWatch) -> None:
        """Does the fixed share of this process."""
        done = read_records(path)
        with self.watch(self.shared_samples, done, path / PROGRESS_FILE) as progress:
            watch.follow(progress)
            self.measure(self.share, replace(outputs, watch=progress), done=done)

    def _work_together(self, team: Team, path: Path, outputs: Outputs, writer: RecordWriter, before: Set[Key]) -> None:
        """Takes batches until there are none; the main process then writes the others' records, and does lost work.

        The others may have begun during the checks: what they have made since, they count themselves.
        """
        here = read_records(path)
        done = team.exchange(here)
        counted = {record.key for record in here} - before
        earlier = [record for record in done if record.key not in counted]
        with self.watch(self.samples, earlier, path / PROGRESS_FILE) as progress:
            progress.join(team.heartbeat.counts)
            team.heartbeat.leave = lambda: team.leave(read_records(path))
            team.heartbeat.follow(progress)
            outputs = replace(outputs, watch=progress)
            self.measure(team.work(self.samples, self.batch_size), outputs, done=done)
            if outputs.stop():
                return
            known = merge_records([*done, *read_records(path)])
            others = team.finish(known, progress.changed)
            if not self.distributed.is_main:
                return
            present = {record.key for record in read_records(path)}
            missing = [record for record in merge_records([*known, *others]) if record.key not in present]
            if missing:
                writer.write(missing)
            done = read_records(path)
            progress.take_over(done)
            self.measure(StridedWork(self.samples, batch_size=self.batch_size), outputs, done=done)

    def check_network(self, probes: Sequence[int]) -> tuple[Check, ...]:
        """Checks for false robustness, by a few passes on the samples `probes`.

        Gradient masking does not depend on targets: for attacks with targets, these checks judge by misclassified
        pixels.
        """
        criterion = self.plan.criterion if self.plan.targets is None else Untargeted(apsr=self.plan.criterion.apsr)
        return check_network(self.network, self.dataset, probes, ignore_index=self.ignore_index, criterion=criterion)

    def check_wiring(self) -> Check:
        """Whether network and data belong together, by a few forwards on readable images spread over the samples."""
        number = min(WIRING_IMAGES, len(self.samples))
        starts = [place * len(self.samples) // number for place in range(number)]
        chosen = {
            first_readable(self.dataset, self.samples[start:] + self.samples[:start]).sample_id for start in starts
        }
        return check_wiring(self.network, self.dataset, sorted(chosen), ignore_index=self.ignore_index)


def _shows_bars(console: Console) -> bool:
    """Whether bars can be redrawn; in a notebook, which is no terminal, `rich` needs ipywidgets for it."""
    return find_spec("ipywidgets") is not None if console.is_jupyter else console.is_terminal
