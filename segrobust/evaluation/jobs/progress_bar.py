"""Progress of an evaluation in the terminal."""

from collections.abc import Callable, Iterable, Iterator

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from segrobust.evaluation.plan import Job, Plan
from segrobust.evaluation.reporting.format import norm_text, percent
from segrobust.evaluation.run.records import Record
from segrobust.metrics import quantiles


def show_progress(
    records: Iterable[Record],
    plan: Plan,
    done: Iterable[Record],
    num_images: int,
    count: Callable[[Record], int] | None = None,
) -> Iterator[Record]:
    """Hands records on and shows a bar per job on stderr, with what it has found so far.

    Args:
        records: that are coming.
        plan: what they come from.
        done: records of earlier commands for the same images.
        num_images: images to be seen to.
        count: how many of a record's attack and kind have been made by now, where other processes make some too.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[found]}"),
    )
    jobs = {job.digest: job for job in plan.jobs}
    seen: dict[str, list[Record]] = {job.digest: [] for job in plan.jobs}
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}
        for job in plan.jobs:
            tasks[job.digest] = progress.add_task(job.name, total=num_images * len(job.calls), found="")
        before = dict.fromkeys(jobs, 0)
        for record, is_new in _chained(done, records):
            total = count(record) if is_new and count is not None else None
            if record.digest in jobs and record.eps in jobs[record.digest].calls:
                job, found = jobs[record.digest], seen[record.digest]
                found.append(record)
                before[job.digest] += not is_new
                completed = len(found) if total is None else before[job.digest] + total
                progress.update(tasks[job.digest], completed=completed, found=_found(job, found))
            if is_new:
                yield record


def _chained(done: Iterable[Record], coming: Iterable[Record]) -> Iterator[tuple[Record, bool]]:
    for record in done:
        yield record, False
    for record in coming:
        yield record, True


def _found(job: Job, records: list[Record]) -> str:
    """Success rate, and the median norm or the share of broken pixels."""
    counted = [record for record in records if not record.flags]
    if not counted:
        return ""
    success = percent(sum(record.success for record in counted) / len(counted))
    if job.attack.minimal_norm:
        (median,) = quantiles(torch.tensor([record.norm for record in counted]), (0.5,))
        return f"asr {success} %  median {norm_text(median, job.attack.norm)}"
    return f"apsr {percent(sum(record.apsr for record in counted) / len(counted))} %"
