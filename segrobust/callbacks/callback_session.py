"""What one process does in one evaluation: its share of the images, with records and panels on disk."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from segrobust.callbacks.access import SampleView
from segrobust.callbacks.trainer_progress import ProgressLines
from segrobust.evaluation.checks import Check, check_network
from segrobust.evaluation.engine.runner import run
from segrobust.evaluation.engine.work import StridedWork
from segrobust.evaluation.plan import Plan
from segrobust.evaluation.reporting.figures.panel_files import write_panels
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import CLEAN, Record, RecordWriter, read_records
from segrobust.evaluation.run.run_directory import RunDirectory


@dataclass(frozen=True)
class Panel:
    """A picture of one image under one attack: name of the job, name of the file, and the file's content."""

    job: str
    name: str
    png: bytes


@dataclass(frozen=True)
class Share:
    """What one process gives to the others."""

    records: tuple[Record, ...]
    panels: tuple[Panel, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One evaluation as one process sees it.

    Attributes:
        network: maps images in [0, 1] to logits.
        weights: digest of its weights.
        dataset: the samples.
        plan: attacks and radii.
        samples: positions of the samples to attack, of all processes.
        drawn: those of them that get a panel.
        ignore_index: label of void pixels.
        batch_size: images that are attacked together.
        seed: of random starts.
        rank: number of this process.
        world_size: number of processes.
        checks: whether process 0 looks for false robustness, by a few passes on one image.
    """

    network: nn.Module
    weights: str
    dataset: SampleView
    plan: Plan
    samples: tuple[int, ...]
    drawn: tuple[int, ...]
    ignore_index: int
    batch_size: int
    seed: int
    rank: int
    world_size: int
    checks: bool

    @property
    def work(self) -> StridedWork:
        """The samples of this process, batch by batch."""
        return StridedWork(self.samples, self.rank, self.world_size, self.batch_size)

    def run_in_memory(self, progress: ProgressLines) -> Share:
        """Keeps nothing on disk."""
        return Share(self._attack(progress, (), None, None), (), self._check())

    def run_in(self, path: Path, progress: ProgressLines) -> Share:
        """Keeps records and panels in the files of a run directory; goes on with what it holds.

        Raises:
            ValueError: the directory cannot be written, or holds results of something else.
        """
        directory = RunDirectory(path)
        directory.claim(self._manifest())
        mine = {sample_id for batch in self.work for sample_id in batch}
        done = tuple(record for record in read_records(path) if record.sample_id in mine and self._wants(record))
        drawn = [sample_id for sample_id in self.drawn if sample_id in mine]
        # Adversarial images are kept for the panels alone: many evaluations of a training would fill the disk.
        with tempfile.TemporaryDirectory() as kept, RecordWriter(path, self.rank) as writer:
            store = AdversarialStore(kept, drawn)
            records = self._attack(progress, done, writer, store)
            files = write_panels(
                self.network, self.dataset, self.plan, directory, store, drawn, self.ignore_index, tiles_too=False
            )
        panels = tuple(Panel(_job_of(file), file.stem, file.read_bytes()) for file in files)
        return Share(records, panels, self._check())

    def _attack(
        self,
        progress: ProgressLines,
        done: tuple[Record, ...],
        writer: RecordWriter | None,
        store: AdversarialStore | None,
    ) -> tuple[Record, ...]:
        records = [*done]
        for record in run(
            self.network,
            self.dataset,
            self.plan,
            work=self.work,
            seed=self.seed,
            ignore_index=self.ignore_index,
            done=done,
            writer=writer,
            store=store,
        ):
            progress.advance(record)
            records.append(record)
        return tuple(records)

    def _check(self) -> tuple[Check, ...]:
        if self.rank > 0 or not self.checks:
            return ()
        probes, criterion = self.samples[:1], self.plan.criterion
        return check_network(self.network, self.dataset, probes, ignore_index=self.ignore_index, criterion=criterion)

    def _wants(self, record: Record) -> bool:
        """Whether a record belongs to the plan; a directory may hold those of others."""
        calls = self.plan.attack_calls
        return record.digest == CLEAN or any(
            record.digest == call.job.digest and record.eps in call.recorded for call in calls
        )

    def _manifest(self) -> Manifest:
        return Manifest.of(
            self.network,
            self.dataset,
            self.plan,
            samples=self.samples,
            ignore_index=self.ignore_index,
            seed=self.seed,
            weights=self.weights,
        )


def _job_of(file: Path) -> str:
    """The job in the name `<sample id>-<job>.png` of a panel."""
    return file.stem.split("-", 1)[1]
