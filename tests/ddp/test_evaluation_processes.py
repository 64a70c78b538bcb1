"""Evaluation by several processes, and by processes that are killed: always the records of an undisturbed run."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest
import torch
from evaluation.toy import ToyScenes, comparable, toy_network, toy_plan
from tolerances import NORM_OF_ANOTHER_BATCH
from torch import nn

from segrobust.evaluation import (
    Distributed,
    StridedWork,
    evaluate,
    evaluate_stored,
    merge_records,
    read_records,
    run,
    summarize_run,
)

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(280)]

NUM_IMAGES = 10


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that start quickly: the packages are imported once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segrobust.evaluation", "evaluation.toy"])
    return context


def evaluate_share(run_dir: Path, rank: int, world_size: int) -> None:
    torch.set_num_threads(1)
    evaluate(
        toy_network(),
        ToyScenes(NUM_IMAGES, delay=0.15),
        plan=toy_plan(),
        run_dir=run_dir,
        batch_size=2,
        distributed=Distributed(rank=rank, world_size=world_size),
        panels=2,
        progress=False,
    )


def start(context: ForkServerContext, run_dir: Path, world_size: int) -> list[ForkServerProcess]:
    started = [
        context.Process(target=evaluate_share, args=(run_dir, rank, world_size), daemon=True)
        for rank in range(world_size)
    ]
    for process in started:
        process.start()
    return started


def count_lines(run_dir: Path) -> int:
    return sum(shard.read_bytes().count(b"\n") for shard in run_dir.glob("records/*.jsonl"))


def test_a_run_that_was_killed_three_times_ends_as_if_it_had_not_been(tmp_path, processes):
    expected = evaluate(toy_network(), ToyScenes(NUM_IMAGES), plan=toy_plan(), progress=False)
    kept = 0
    for world_size, fresh_lines in ((1, 9), (2, 14), (1, 7)):
        workers = start(processes, tmp_path, world_size)
        while count_lines(tmp_path) < kept + fresh_lines:
            assert any(worker.is_alive() for worker in workers), "the work ended before it could be killed"
            time.sleep(0.002)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        for worker in workers:
            worker.join()
        kept = count_lines(tmp_path)
        assert kept < len(expected.records)
        with (tmp_path / "records" / "rank000.jsonl").open("a") as file:
            file.write('{"sample_id":0,"sample_na')  # and the last one was torn
    assert summarize_run(tmp_path).missing == len(expected.records) - len(read_records(tmp_path))
    for worker in (last := start(processes, tmp_path, 2)):
        worker.join()
    assert [worker.exitcode for worker in last] == [0, 0]
    report = summarize_run(tmp_path)
    assert comparable(report.records) == comparable(expected.records)
    assert report.missing == 0
    assert (tmp_path / "summary.json").is_file()
    assert len(list((tmp_path / "panels").glob("*-alma.png"))) >= 2


def run_share(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mine = list(run(toy_network(), ToyScenes(5), toy_plan(), work=StridedWork(range(5), rank, 2, 2)))
    gathered: list[list[object]] = [[], []]
    torch.distributed.all_gather_object(gathered, [record.to_line() for record in mine])
    (folder / f"rank{rank}.txt").write_text("\n".join(line for lines in gathered for line in lines))
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_records_of_one(tmp_path, processes):
    alone = list(run(toy_network(), ToyScenes(5), toy_plan(), work=StridedWork(range(5))))
    workers = [processes.Process(target=run_share, args=(rank, tmp_path), daemon=True) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    texts = [(tmp_path / f"rank{rank}.txt").read_text() for rank in range(2)]
    assert texts[0] == texts[1]
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "rank000.jsonl").write_text(texts[0] + "\n")
    assert len(texts[0].splitlines()) == len(alone)
    assert comparable(read_records(tmp_path)) == comparable(merge_records(alone))


class Slow(nn.Module):
    """A network whose passes take time, as those of large ones do."""

    def __init__(self):
        super().__init__()
        self.inner = toy_network(torch.float32)

    def forward(self, images):
        time.sleep(0.01)
        return self.inner(images)


def evaluate_slowly(run_dir: Path, rank: int) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{run_dir}.store", 2)
    distributed = Distributed(rank=rank, world_size=2, store=store)
    evaluate(Slow(), ToyScenes(24), plan=toy_plan(), run_dir=run_dir, distributed=distributed, panels=0, progress=False)


def test_progress_counts_what_is_there_and_nothing_twice(tmp_path, processes):
    """Process 1 works during the checks of process 0, which then finds records that process 1 counts itself."""
    run_dir = tmp_path / "run"
    workers = [processes.Process(target=evaluate_slowly, args=(run_dir, rank), daemon=True) for rank in range(2)]
    for worker in workers:
        worker.start()
    seen = []
    while any(worker.is_alive() for worker in workers):
        if (run_dir / "progress.json").is_file():
            numbers = json.loads((run_dir / "progress.json").read_text())
            seen.append((numbers["images_done"], count_lines(run_dir)))
        time.sleep(0.02)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(seen) > 3
    of_each = count_lines(run_dir) / 24
    assert all(of_each * said <= there for said, there in seen), seen
    numbers = json.loads((run_dir / "progress.json").read_text())
    assert (numbers["state"], numbers["images_done"], numbers["passes_left"]) == ("finished", 24, 0)
    assert numbers["passes_done"] > 24, "those of process 1 too"


def evaluate_seven(run_dir: Path, rank: int, world_size: int, batch_size: int) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{run_dir}.store", world_size) if world_size > 1 else None
    evaluate(
        toy_network(torch.float32),
        ToyScenes(7),
        plan=toy_plan(),
        run_dir=run_dir,
        batch_size=batch_size,
        distributed=Distributed(rank=rank, world_size=world_size, store=store),
        panels=0,
        checks="off",
        progress=False,
    )


def test_world_size_changes_no_bit_and_batch_size_changes_the_last_ones(tmp_path, processes):
    """Batches are handed out whole: with the batch size fixed, results are those of one process in every bit."""
    runs = {}
    for batch_size in (1, 4):
        for world_size in (1, 2, 3):
            run_dir = tmp_path / f"{world_size}x{batch_size}"
            workers = [
                processes.Process(target=evaluate_seven, args=(run_dir, rank, world_size, batch_size), daemon=True)
                for rank in range(world_size)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert [worker.exitcode for worker in workers] == [0] * world_size
            assert summarize_run(run_dir).missing == 0
            runs[world_size, batch_size] = {record.key: record for record in read_records(run_dir)}
    for (world_size, batch_size), found in runs.items():
        assert comparable([*found.values()]) == comparable([*runs[1, batch_size].values()]), world_size
    one, four = runs[1, 1], runs[1, 4]
    assert one.keys() == four.keys()
    assert {key: record.success for key, record in one.items()} == {key: record.success for key, record in four.items()}
    for key, record in one.items():
        assert four[key].norm == pytest.approx(record.norm, rel=NORM_OF_ANOTHER_BATCH)


def evaluate_stored_share(run_dir: Path, rank: int, world_size: int, shares_store: bool) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{run_dir}.store", world_size) if shares_store else None
    distributed = Distributed(rank=rank, world_size=world_size, store=store)
    for seed in (1, 2):
        result = evaluate_stored(
            run_dir,
            toy_network(torch.float32, seed),
            ToyScenes(7, delay=0.1),
            name="other",
            output=run_dir.parent / "judged",
            batch_size=2,
            distributed=distributed,
            progress=False,
        )
        if store is not None and rank == 0:
            assert (result.status, result.missing) == ("ok", 0)


@pytest.mark.parametrize("shares_store", [True, False])
def test_two_processes_share_the_evaluation_of_stored_images(tmp_path, processes, shares_store):
    settings = {"plan": toy_plan(), "panels": 0, "progress": False, "checks": "off", "keep_adversarials": True}
    evaluate(toy_network(torch.float32), ToyScenes(7), run_dir=tmp_path / "run", batch_size=4, **settings)
    copy = shutil.copytree(tmp_path / "run", tmp_path / "copy")
    options = {"name": "other", "batch_size": 2, "progress": False, "output": tmp_path / "alone"}
    expected = [evaluate_stored(copy, toy_network(torch.float32, seed), ToyScenes(7), **options) for seed in (1, 2)]
    workers = [
        processes.Process(target=evaluate_stored_share, args=(tmp_path / "run", rank, 2, shares_store), daemon=True)
        for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    for alone in expected:
        (folder,) = (tmp_path / "judged").glob(f"run-*/{alone.folder.name}")
        shards = sorted((folder / "records").glob("rank*.jsonl"))
        assert len(shards) == 2
        assert all(shard.stat().st_size for shard in shards)
        assert comparable(read_records(folder)) == comparable(alone.records)
        assert json.loads((folder / "judgement.json").read_text())["status"] == "ok"
