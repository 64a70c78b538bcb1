"""A run of one process is continued by two of a gloo group, one of which compiles the network: it is not refused."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from evaluation.test_changes_between_calls import Block, Scenes, numbers, pgd
from torch import distributed

from segrobust.evaluation import Distributed, evaluate, read_records, summarize_run

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(280)]


def evaluate_all(run_dir, network, attacks, **settings):
    return evaluate(network, Scenes(), attacks=attacks, eps=(0.1,), run_dir=run_dir, panels=0, checks="off",
                    progress=False, **settings)  # fmt: skip


def continue_in_parallel(run_dir: Path, rank: int) -> None:
    torch.set_num_threads(1 + rank)
    store = distributed.FileStore(f"{run_dir}.group", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    network = Block()
    evaluate_all(
        run_dir,
        torch.compile(network, backend="eager") if rank else network,
        pgd() | {"longer": pgd(num_steps=5)["pgd"]},
        batch_size=2,
        distributed=Distributed(rank=rank, world_size=2, store=distributed.FileStore(f"{run_dir}.store", 2)),
    )
    distributed.destroy_process_group()


def test_two_processes_continue_a_run_of_one(tmp_path):
    evaluate_all(tmp_path / "run", Block(), pgd())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["evaluation.test_changes_between_calls"])
    workers = [context.Process(target=continue_in_parallel, args=(tmp_path / "run", rank)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert summarize_run(tmp_path / "run").missing == 0
    alone = evaluate_all(None, Block(), pgd() | {"longer": pgd(num_steps=5)["pgd"]})
    assert numbers(read_records(tmp_path / "run")) == numbers(alone.records)
