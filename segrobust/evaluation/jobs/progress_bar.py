"""Progress of an evaluation in the terminal."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import torch
from rich import progress as bars
from rich.console import Console

from segrobust.evaluation.jobs.progress import Progress
from segrobust.evaluation.plan import Job, Plan
from segrobust.evaluation.reporting.format import norm_text, percent
from segrobust.evaluation.run.records import Record
from segrobust.metrics import quantiles


class ProgressBars(Progress):
    """A bar per job on stderr, with the results of the job so far; shown inside a `with` block.

    Args:
        plan: the jobs.
        sample_ids: the samples whose progress is shown, of all processes.
        done: records of earlier commands.
        file: JSON file that is replaced at most once a second; None for none.
        processes: their number.
    """

    def __init__(
        self,
        plan: Plan,
        sample_ids: Sequence[int],
        done: Iterable[Record] = (),
        *,
        file: Path | None = None,
        processes: int = 1,
    ) -> None:
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("ETA"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[found]}"),
        )
        self._bars = bars.Progress(*columns, console=Console(stderr=True))
        self._jobs = {job.digest: job for job in plan.jobs}
        self._found: dict[str, list[Record]] = {job.digest: [] for job in plan.jobs}
        self._tasks = {
            job.digest: self._bars.add_task(job.name, total=len(sample_ids) * len(job.calls), found="")
            for job in plan.jobs
        }
        super().__init__(plan, sample_ids, done, file=file, processes=processes)

    def begin(self, done: Iterable[Record]) -> None:
        """Counts from here on what these records lack; passes and time go on."""
        samples = {*self._sample_ids}
        wanted = [record for record in done if record.sample_id in samples]
        super().begin(wanted)
        self._found = {job.digest: [] for job in self._jobs.values()}
        for record in wanted:
            self._add(record)
        self._before = {digest: len(found) for digest, found in self._found.items()}
        for digest in self._found:
            self._show(digest)

    def recorded(self, record: Record) -> None:
        """See `Watch`."""
        super().recorded(record)
        if self._add(record):
            self._show(record.digest)

    def show(self) -> None:
        """Counts the records of other processes."""
        super().show()
        for digest, task in self._tasks.items():
            self._bars.update(task, completed=self._completed(digest))

    def _add(self, record: Record) -> bool:
        """Whether a record is one that a bar counts."""
        job = self._jobs.get(record.digest)
        if job is None or record.eps not in job.calls:
            return False
        self._found[job.digest].append(record)
        return True

    def _completed(self, digest: str) -> int:
        made = sum(each.recorded.get(digest, 0) for each in (self.counts, *self.others()))
        return self._before[digest] + made

    def _show(self, digest: str) -> None:
        found = _found_text(self._jobs[digest], self._found[digest])
        self._bars.update(self._tasks[digest], completed=self._completed(digest), found=found)

    def __enter__(self) -> Self:
        super().__enter__()
        self._bars.start()
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        super().__exit__(kind, *exception)
        self._bars.stop()


def _found_text(job: Job, records: list[Record]) -> str:
    """Success rate, and the median norm or the share of broken pixels."""
    counted = [record for record in records if not record.flags]
    if not counted:
        return ""
    success = percent(sum(record.success for record in counted) / len(counted))
    if job.attack.minimal_norm:
        (median,) = quantiles(torch.tensor([record.norm for record in counted]), (0.5,))
        return f"asr {success} %  median {norm_text(median, job.attack.norm)}"
    return f"apsr {percent(sum(record.apsr for record in counted) / len(counted))} %"
