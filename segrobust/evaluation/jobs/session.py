"""One evaluation in one of its processes: its settings, its share of the work, and the records of the others."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from segrobust.attacks import Untargeted
from segrobust.evaluation.checks import WIRING_IMAGES, Check, check_network, check_wiring
from segrobust.evaluation.dataset import SampleSource, first_readable
from segrobust.evaluation.engine.runner import Outputs, never_stops, run
from segrobust.evaluation.engine.work import StridedWork, WorkSource
from segrobust.evaluation.jobs.distributed import Distributed, Team
from segrobust.evaluation.jobs.progress_bar import ProgressBars
from segrobust.evaluation.jobs.signals import Interruption
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
from segrobust.evaluation.run.failures import FaultLog
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import CLEAN, Record, RecordWriter, merge_records, read_records


def _ignore(record: Record) -> None:
    del record


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
        records = read_records(path)
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
        records = tuple(record for record in read_records(path) if record.sample_id in wanted)
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
        advance: Callable[[Record], object] = _ignore,
    ) -> tuple[Record, ...]:
        """Makes the missing records of some work.

        Args:
            work: the samples.
            outputs: where results are written.
            done: records that exist already.
            advance: called with every new record.

        Returns:
            The new records, in the order in which they were made.
        """
        made = []
        for record in run(
            self.network,
            self.dataset,
            self.plan,
            work=work,
            seed=self.seed,
            ignore_index=self.ignore_index,
            done=done,
            outputs=outputs,
            stored=self.stored,
        ):
            advance(record)
            made.append(record)
        return tuple(made)

    def measure_shown(
        self,
        work: WorkSource,
        outputs: Outputs,
        *,
        done: Sequence[Record],
        sample_ids: Sequence[int],
        count: Callable[[Record], int] | None = None,
    ) -> tuple[Record, ...]:
        """The same with progress on stderr, if `progress` is set.

        Args:
            work: the samples.
            outputs: where results are written.
            done: records that exist already.
            sample_ids: the samples whose progress is shown.
            count: counts a record, and returns the number of its attack and kind over all processes.
        """
        if not self.progress:
            return self.measure(work, outputs, done=done, advance=_ignore if count is None else count)
        wanted = {*sample_ids}
        with ProgressBars(self.plan, [each for each in done if each.sample_id in wanted], len(wanted)) as bars:

            def advance(record: Record) -> None:
                bars.advance(record, None if count is None else count(record))

            return self.measure(work, outputs, done=done, advance=advance)

    def complete(
        self,
        claim: Claim,
        *,
        store: AdversarialStore | None,
        faults: FaultLog,
        is_complete: Callable[[], bool],
        conclude: Callable[[], None],
        stop: Interruption,
    ) -> None:
        """Makes the records that a folder lacks, together with the other processes.

        Args:
            claim: holds the folder.
            store: stores adversarial images.
            faults: records errors of single images.
            is_complete: whether nothing is missing; called by processes without a common store.
            conclude: called once when the work is done, by the main process or, without a store, by the last one.
            stop: whether a signal arrived, before the work or during it.
        """
        path = claim.directory
        with RecordWriter(path, self.distributed.rank, claim=claim) as writer, self._gathered(path) as team:
            outputs = Outputs(writer=writer, store=store, faults=faults, stop=stop)
            done = read_records(path)
            if team is None:
                self.measure_shown(self.share, outputs, done=done, sample_ids=self.shared_samples)
            else:
                done = team.exchange(done)
                work = team.work(self.samples, self.batch_size)
                self.measure_shown(work, outputs, done=done, sample_ids=self.samples, count=team.count)
                if not stop():
                    self._finish(team, path, done, writer, outputs)
            claim.require_unchanged()
            if not stop() and (is_complete() if team is None else self.distributed.is_main):
                conclude()

    @contextmanager
    def _gathered(self, path: Path) -> Iterator[Team | None]:
        """The team of this process; None if it works alone or without a common store."""
        if self.distributed.store is None:
            yield None
        else:
            with Team.gathered(self.distributed, path) as team:
                yield team

    def _finish(self, team: Team, path: Path, done: Sequence[Record], writer: RecordWriter, outputs: Outputs) -> None:
        """Waits for the other processes; the main one writes their records, and does the work of lost ones."""
        known = merge_records([*done, *read_records(path)])
        others = team.finish(known, outputs.stop)
        if not self.distributed.is_main:
            return
        present = {record.key for record in read_records(path)}
        missing = [record for record in merge_records([*known, *others]) if record.key not in present]
        if missing:
            writer.write(missing)
        self.measure(StridedWork(self.samples, batch_size=self.batch_size), outputs, done=read_records(path))

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
