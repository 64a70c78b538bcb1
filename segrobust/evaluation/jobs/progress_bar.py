"""Progress of an evaluation in the terminal."""

from collections.abc import Iterable
from typing import Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segrobust.evaluation.plan import Job, Plan
from segrobust.evaluation.reporting.format import norm_text, percent
from segrobust.evaluation.run.records import Record
from segrobust.metrics import quantiles


class ProgressBars:
    """A bar per job on stderr, with the results of the job so far; shown inside a `with` block.

    Args:
        plan: the jobs.
        done: records of earlier commands for the same images.
        num_images: number of images.
    """

    def __init__(self, plan: Plan, done: Iterable[Record], num_images: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[found]}"),
        )
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._jobs = {job.digest: job for job in plan.jobs}
        self._found: dict[str, list[Record]] = {job.digest: [] for job in plan.jobs}
        self._tasks = {
            job.digest: self._progress.add_task(job.name, total=num_images * len(job.calls), found="")
            for job in plan.jobs
        }
        for record in done:
            self.advance(record)
        self._before = {digest: len(found) for digest, found in self._found.items()}

    def advance(self, record: Record, made: int | None = None) -> None:
        """Counts a record; `made` is the number of its attack and kind over all processes, if there are several."""
        job = self._jobs.get(record.digest)
        if job is None or record.eps not in job.calls:
            return
        found = self._found[job.digest]
        found.append(record)
        completed = len(found) if made is None else self._before[job.digest] + made
        self._progress.update(self._tasks[job.digest], completed=completed, found=_found_text(job, found))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()


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
