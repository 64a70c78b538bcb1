"""The steps of one call of `evaluate`: claim the files, measure a pass, announce, check, work, conclude."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import torch
from rich.console import Console

from segrobust.evaluation.checks import Check, check_attacks, check_records, write_checks
from segrobust.evaluation.checks.channel_advice import advise_channels
from segrobust.evaluation.dataset import first_readable, label_space_of, target_maps
from segrobust.evaluation.engine.runner import Outputs
from segrobust.evaluation.engine.runtime_estimate import estimate, measure_passes
from segrobust.evaluation.engine.work import StridedWork
from segrobust.evaluation.forward import count_classes, device_of, precision_of
from segrobust.evaluation.image_values import describe_images
from segrobust.evaluation.jobs.session import Session
from segrobust.evaluation.jobs.signals import Interruption, interruptible
from segrobust.evaluation.jobs.silence import LoneWatch, Stage, stage
from segrobust.evaluation.labels import LabelSurvey, survey_labels
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.reporting.figures.panel_files import write_panels
from segrobust.evaluation.reporting.notable import notable_samples
from segrobust.evaluation.reporting.report import Report, heading, is_complete, summarize_run, write_report
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.changed_samples import require_repeatable
from segrobust.evaluation.run.claim import Claim
from segrobust.evaluation.run.completeness import count_missing
from segrobust.evaluation.run.failures import FaultLog
from segrobust.evaluation.run.network_identity import examine_network
from segrobust.evaluation.run.records import merge_records, read_records
from segrobust.evaluation.run.run_directory import Provenance, RunDirectory, device_name
from segrobust.label_space import check_ignore_index
from segrobust.untrusted.printable import for_terminal

CheckLevel = Literal["basic", "thorough", "off"]

_FIRST_PASSES: Final = "the first passes of the network"
_CHECKS: Final = "the checks of the network"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One call of `evaluate`.

    Attributes:
        session: what is measured, by which processes.
        checks: which checks for false robustness are made.
        redo_changed: whether samples that changed since they were recorded are measured anew, and not refused.
    """

    session: Session
    checks: CheckLevel
    redo_changed: bool = False

    def estimate(self) -> Report:
        """Estimates the time of a full run from one measured pass."""
        session = self.session
        watch = LoneWatch(session.distributed.rank, None)
        with watch, stage(watch.follow, _FIRST_PASSES, "the estimate is missing"):
            seconds = self._measure_passes()
        return Report(
            records=(),
            summary=summarize(()),
            heading=heading(session.manifest),
            estimate=estimate(session.plan, -(-len(session.samples) // session.distributed.world_size), *seconds),
        )

    def run_in_memory(self) -> Report:
        """Keeps nothing."""
        session = self.session
        with LoneWatch(0, None) as watch:
            with stage(watch.follow, _FIRST_PASSES, "all attacks are missing") as now:
                self._measure_passes()
                self._announce(None)
                now.enter(_CHECKS)
                found = () if self.checks == "off" else self._check_network()
            with session.watch(session.samples) as progress:
                watch.follow(progress)
                made = session.measure(session.share, Outputs(watch=progress))
        records, identities = merge_records(made), {job.digest: job.identity for job in session.plan.jobs}
        return Report(
            records=records,
            summary=summarize(records, asr_only=session.plan.asr_only),
            heading=heading(session.manifest),
            checks=found if self.checks == "off" else (*found, *check_records(records, identities)),
            value_range=session.manifest.value_range,
        )

    def run_in(self, directory: RunDirectory, drawn: tuple[int, ...], keep_all: bool, skip_unreadable: bool) -> Report:
        """Writes records, stores adversarial images of the samples `drawn` or of all, and draws the former."""
        session = self.session
        with (
            interruptible() as stop,
            Claim(directory.path, session.manifest, session.distributed.rank) as claim,
        ):
            directory.examine(session.manifest)
            faults = FaultLog(directory.path, session.distributed.rank, skip_unreadable)
            session.complete(
                claim,
                prepare=lambda now: self._prepare(directory, claim, now, stop, skip_unreadable),
                store=AdversarialStore(directory.path, None if keep_all else drawn),
                faults=faults,
                is_complete=lambda: is_complete(directory),
                conclude=lambda now: self._conclude(directory, drawn, faults, now),
                stop=stop,
            )
            report = replace(self._report_so_far(directory), interrupted=stop.signal)
        if session.distributed.store is not None and not session.distributed.is_main:
            # The directory of this process may lack records of the others, so the main process reports what is missing.
            return replace(report, missing=0)
        return report

    def _prepare(
        self, directory: RunDirectory, claim: Claim, now: Stage, stop: Interruption, skip_unreadable: bool
    ) -> None:
        """Compares the directory with the samples and the network, writes what is evaluated, and checks the network."""
        session = self.session
        require_repeatable(session.dataset, session.samples)
        session.compare_samples(
            directory.path, skip_unreadable=skip_unreadable, redo_changed=self.redo_changed, stop=stop
        )
        now.enter(_FIRST_PASSES)
        identity = examine_network(directory.network, session.network, session.dataset, session.samples)
        claim.write_manifest()
        identity.write(directory.network)
        if stop():
            return
        self._measure_passes()
        self._announce(directory)
        if session.distributed.is_main:
            now.enter(_CHECKS)
            self._introduce(directory)

    def _report_so_far(self, directory: RunDirectory) -> Report:
        """The report from the files, if there are any: the job may have ended before this process began."""
        if directory.manifest.exists():
            return summarize_run(directory.path)
        manifest = self.session.manifest
        missing = count_missing(manifest, (), ())
        return Report(records=(), summary=summarize(()), heading=heading(manifest), missing=missing)

    def _conclude(self, directory: RunDirectory, drawn: tuple[int, ...], faults: FaultLog, now: Stage) -> None:
        """Checks the attacks, draws panels, and writes the report.

        Adversarial images of the worst and the median image, and those on other machines, are not stored here: their
        attacks run once more, and their records do not change.
        """
        session, records = self.session, read_records(directory.path)
        path = directory.attack_checks(session.manifest.planned)
        if self.checks == "thorough" and not path.exists():
            now.enter("the checks of the attacks")
            found = check_attacks(
                session.network,
                session.dataset,
                session.plan,
                self._probes,
                records,
                ignore_index=session.ignore_index,
                seed=session.seed,
            )
            write_checks(path, found, weights=session.manifest.weights, root=directory.path)
        if drawn:
            now.enter("the panels")
            shown = sorted({*drawn, *notable_samples(records).values()} & {*session.samples})
            store = AdversarialStore(directory.path, shown)
            work = StridedWork(shown, batch_size=session.batch_size)
            session.measure(work, Outputs(store=store, faults=faults), done=records)
            write_panels(session.network, session.dataset, session.plan, directory, store, shown, session.ignore_index)
        now.rest()
        write_report(directory)

    def _introduce(self, directory: RunDirectory) -> None:
        """Records the provenance, and checks the network before the attacks."""
        session = self.session
        directory.append_provenance(
            Provenance.now(
                device=device_of(session.network),
                batch_size=session.batch_size,
                world_size=session.distributed.world_size,
            )
        )
        if self.checks == "off" or directory.network_checks.exists():
            return
        found = self._check_network()
        weights = session.manifest.weights
        write_checks(directory.network_checks, found, weights=weights, root=directory.path)

    def _check_network(self) -> tuple[Check, ...]:
        """Checks the network on the data, and prints what is not ok."""
        session = self.session
        found = (session.check_wiring(), *session.check_network(self._probes))
        if session.progress:
            for check in found:
                if check.status != "ok":
                    line = f"check {check.name}: {check.status}. {check.text}"
                    Console(stderr=True, highlight=False).print(for_terminal(line), markup=False, soft_wrap=True)
        return found

    @property
    def _probes(self) -> tuple[int, ...]:
        """The images for the checks: the first ones that can be read."""
        dataset, samples = self.session.dataset, self.session.samples
        first = first_readable(dataset, samples).sample_id
        rest = [sample_id for sample_id in samples if sample_id > first]
        if not rest:
            return (first,)
        try:
            return first, first_readable(dataset, rest).sample_id
        except ValueError:
            return (first,)

    def _measure_passes(self) -> tuple[float, float]:
        """Seconds of a forward and a backward pass on one image; raises if network, data or targets do not match."""
        session, _ = self.session, self._labels
        sample = first_readable(session.dataset, session.samples)
        device, dtype = device_of(session.network), precision_of(session.network)
        images, masks = sample.image[None].to(device, dtype), sample.mask[None].to(device)
        if session.plan.targets is not None:
            target_maps(
                session.plan.targets,
                session.network,
                session.dataset,
                (sample.sample_id,),
                images,
                masks,
                session.ignore_index,
            )
        backward = session.plan.follows_gradients
        return measure_passes(session.network, images, masks, session.ignore_index, backward=backward)

    @cached_property
    def _labels(self) -> LabelSurvey:
        """What the masks hold, by a forward pass on one image and by some masks.

        Raises:
            ValueError: classes of the network and of the data that differ, or labels that are neither a class nor void.
        """
        session = self.session
        num_classes = count_classes(session.network, first_readable(session.dataset, session.samples).image)
        check_ignore_index(session.ignore_index, num_classes)
        space = label_space_of(session.dataset)
        if space is not None and space.num_classes != num_classes:
            advice = advise_channels(
                session.network,
                session.dataset,
                session.samples,
                num_classes=space.num_classes,
                ignore_index=session.ignore_index,
            )
            raise ValueError(
                f"the network predicts {num_classes} classes, the data set has {space.num_classes} "
                f"({', '.join(space.names[:4])}, ...): {advice or 'use data and weights that belong together'}"
            )
        found = survey_labels(
            session.dataset, session.samples, num_classes=num_classes, ignore_index=session.ignore_index
        )
        if found.foreign:
            raise ValueError(found.foreign)
        for doubt in filter(None, (found.doubt, found.counted_void)):
            if session.distributed.is_main:
                warnings.warn(doubt, UserWarning, stacklevel=6)
        return found

    def _announce(self, directory: RunDirectory | None) -> None:
        """Prints the settings before the work starts."""
        session = self.session
        if not session.progress:
            return
        world_size = session.distributed.world_size
        lines = [
            heading(session.manifest),
            f"{device_name(device_of(session.network))}, {torch.get_num_threads()} threads, "
            f"batches of {session.batch_size}, {world_size} process{'es' if world_size > 1 else ''}",
            describe_images(session.dataset, session.samples),
            self._labels.describe(),
            *(f"{job.name}: {job.identity}" for job in session.plan.jobs),
            f"run directory: {'none, no files are written' if directory is None else directory.path}",
        ]
        Console(stderr=True, highlight=False).print(for_terminal("\n".join(lines)), markup=False, soft_wrap=True)
