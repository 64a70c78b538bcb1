"""Networks that hang, signals in a team, a process that returns too late: the job ends, and says what is missing."""

import json
import multiprocessing
import os
import re
import signal
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from evaluation.toy import ToyScenes, comparable, toy_network, toy_plan
from torch import nn
from torch.distributed import FileStore, TCPStore

from segrobust.evaluation import Distributed, evaluate, read_records, summarize_run

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(600)]

NUM_IMAGES = 9
SMALL = (6, 9)  # image 3 alone has this size
FOR_EVER = 3600.0


class Sleepy(nn.Module):
    """Sleeps in one forward pass: the one after `awake`, or that of images of a size."""

    def __init__(self, seconds: float, awake: int | None = None, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.inner = toy_network()
        self.pause = (seconds, awake, size)
        self.file: list[Path] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seconds, awake, size = self.pause
        if awake is not None:
            self.pause = (seconds, awake - 1, size)
        if awake == 0 or tuple(images.shape[-2:]) == size:
            for file in self.file:
                file.touch()
            time.sleep(seconds)
        return self.inner(images)


def work(folder, rank, store, network=None, own_disk=False, delay=0.0, stalled_after=None, checks="off"):
    """One process; its status is that of the command line."""
    torch.set_num_threads(1)
    sys.stderr = (folder / f"stderr{rank}").open("w")
    run_dir = folder / (f"run{rank}" if own_disk else "run")
    report = evaluate(
        toy_network() if network is None else network,
        ToyScenes(NUM_IMAGES, delay=delay),
        plan=toy_plan(),
        run_dir=run_dir,
        batch_size=2,
        distributed=Distributed(rank=rank, world_size=2, store=store(), lost_after=20, stalled_after=stalled_after),
        checks=checks,
        panels=0,
        progress=rank == 0,
    )
    sys.exit(128 + report.interrupted if report.interrupted else int(report.missing > 0))


def file_store(folder):
    return lambda: FileStore(str(folder / "store"), 2)


def hang_in_rank_1(folder, rank, own_disk):
    network = Sleepy(FOR_EVER, awake=60) if rank else Sleepy(0)
    work(folder, rank, file_store(folder), network, own_disk, delay=0.05 if rank else 0.5, stalled_after=8.0)


BEFORE_THE_ATTACKS = {"the first passes of the network": 0, "the checks of the network": 20}
"""Passes after which a network hangs there: six come before the checks."""


def hang_before_the_attacks(folder, rank, hanging, where, own_disk):
    network = Sleepy(FOR_EVER, awake=BEFORE_THE_ATTACKS[where]) if rank == hanging else Sleepy(0)
    work(folder, rank, file_store(folder), network, own_disk, stalled_after=6.0, checks="basic")


def hang_alone_before_the_attacks(folder, where):
    network = Sleepy(FOR_EVER, awake=BEFORE_THE_ATTACKS[where])
    sys.stderr = (folder / "stderr0").open("w")
    evaluate(
        network,
        ToyScenes(NUM_IMAGES),
        plan=toy_plan(),
        run_dir=folder / "run",
        distributed=Distributed(stalled_after=4.0),
        panels=0,
        progress=False,
    )


def hang_on_image_3(folder, rank):
    work(folder, rank, file_store(folder), Sleepy(FOR_EVER, size=SMALL), stalled_after=8.0)


def hang_alone(folder, rank):
    """A process without a store, alone or with a fixed share of two."""
    torch.set_num_threads(1)
    sys.stderr = (folder / f"stderr{rank}").open("w")
    evaluate(
        Sleepy(FOR_EVER, size=SMALL),
        ToyScenes(NUM_IMAGES),
        plan=toy_plan(),
        run_dir=folder / "run",
        distributed=Distributed(rank=rank or 0, world_size=1 if rank is None else 2, stalled_after=4.0),
        checks="off",
        panels=0,
        progress=False,
    )


def hold_store_and_be_slow(folder, rank, port):
    network = Sleepy(6.0 if rank else 0.0, awake=60 if rank else None)
    network.file.append(folder / "sleeps")

    def store():
        return TCPStore("127.0.0.1", port, 2, is_master=rank == 0, timeout=timedelta(seconds=60))

    work(folder, rank, store, network, delay=0.05 if rank else 0.5)


def only_work(folder, rank):
    work(folder, rank, file_store(folder))


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segrobust.evaluation", "evaluation.toy"])
    return context


@pytest.fixture
def started(processes):
    running = []

    def start(target, *args):
        running.append(processes.Process(target=target, args=args, daemon=True))
        running[-1].start()
        return running[-1]

    yield start
    for process in running:
        process.kill()


@pytest.fixture(scope="module")
def expected():
    network = Sleepy(0)
    return comparable(evaluate(network, ToyScenes(NUM_IMAGES), plan=toy_plan(), progress=False, batch_size=2).records)


def statuses(*workers):
    for worker in workers:
        worker.join(200)
    return [worker.exitcode for worker in workers]


@pytest.mark.parametrize("own_disk", [False, True])
def test_process_0_does_the_work_of_one_that_hangs(tmp_path, started, expected, own_disk):
    workers = [started(hang_in_rank_1, tmp_path, rank, own_disk) for rank in range(2)]
    assert statuses(*workers) == [0, 0]
    run_dir = tmp_path / ("run0" if own_disk else "run")
    assert comparable(read_records(run_dir)) == expected
    assert (run_dir / "summary.json").is_file()
    assert json.loads((run_dir / "progress.json").read_text())["images_done"] == NUM_IMAGES
    reported = (tmp_path / "stderr0").read_text()
    assert "process 1 has made no pass for 0:00:0" in reported
    assert "after 0:00:08 it counts as hanging" in reported
    assert "process 1 hangs" in (tmp_path / "stderr1").read_text()
    if own_disk:
        sent = {*comparable(read_records(tmp_path / "run1")).items()}
        assert sent
        assert sent <= {*comparable(read_records(run_dir)).items()}


@pytest.mark.parametrize("own_disk", [False, True])
def test_process_0_does_the_work_of_one_that_hangs_in_the_first_pass(tmp_path, started, expected, own_disk):
    where = "the first passes of the network"
    workers = [started(hang_before_the_attacks, tmp_path, rank, 1, where, own_disk) for rank in range(2)]
    assert statuses(*workers) == [0, 0]
    run_dir = tmp_path / ("run0" if own_disk else "run")
    assert comparable(read_records(run_dir)) == expected
    assert (run_dir / "summary.json").is_file()
    assert re.search(f"process 1 has made no pass for 0:00:0., in {where}; after", (tmp_path / "stderr0").read_text())
    assert re.search(f"process 1 hangs.*in {where}: it ends", (tmp_path / "stderr1").read_text())


@pytest.mark.parametrize("where", BEFORE_THE_ATTACKS)
@pytest.mark.parametrize("own_disk", [False, True])
def test_the_others_do_the_work_of_a_process_0_that_hangs_before_the_attacks(
    tmp_path, started, expected, where, own_disk
):
    workers = [started(hang_before_the_attacks, tmp_path, rank, 0, where, own_disk) for rank in range(2)]
    assert statuses(*workers) == [1, 0]
    reported = (tmp_path / "stderr0").read_text()
    assert re.search(f"process 0 hangs.*in {where}: it ends. all attacks of this command are missing", reported)
    assert comparable(read_records(tmp_path / ("run1" if own_disk else "run"))) == expected


@pytest.mark.parametrize("where", BEFORE_THE_ATTACKS)
def test_a_single_process_that_hangs_before_the_attacks_ends(tmp_path, started, where):
    assert statuses(started(hang_alone_before_the_attacks, tmp_path, where)) == [1]
    reported = (tmp_path / "stderr0").read_text()
    assert f"in {where}; after 0:00:04 it ends" in reported
    assert f"in {where}: it ends. all attacks of this command are missing; the same command continues" in reported


def test_a_job_in_which_every_process_hangs_ends_and_names_the_image(tmp_path, started):
    workers = [started(hang_on_image_3, tmp_path, rank) for rank in range(2)]
    status = statuses(*workers)
    assert status[0] == 1
    assert status[1] == 0
    reported = (tmp_path / "stderr0").read_text()
    assert "process 0 hangs" in reported
    assert "on image 3" in reported
    assert "images are missing" in reported
    assert json.loads((tmp_path / "run" / "progress.json").read_text())["state"] == "stalled"
    assert summarize_run(tmp_path / "run").missing > 0
    assert {record.sample_id for record in read_records(tmp_path / "run")} >= {0, 1, 2, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("ranks", [(None,), (0, 1)])
def test_a_process_that_hangs_without_a_store_ends_and_names_the_image(tmp_path, started, ranks):
    workers = [started(hang_alone, tmp_path, rank) for rank in ranks]
    assert statuses(*workers) == ([1] if ranks == (None,) else [0, 1])
    reported = (tmp_path / f"stderr{ranks[-1]}").read_text()
    assert "has made no pass for 0:00:0" in reported
    assert "in clean on image 3; after 0:00:04 it ends" in reported
    assert f"records of {NUM_IMAGES - 3 if ranks == (None,) else 3} images are missing" in reported
    found = read_records(tmp_path / "run")
    assert {record.sample_id for record in found} == ({0, 1, 2} if ranks == (None,) else {0, 1, 2, 4, 6, 8})
    report = evaluate(toy_network(), ToyScenes(NUM_IMAGES), plan=toy_plan(), run_dir=tmp_path / "again", progress=False)
    assert comparable(found).items() <= comparable(report.records).items()


def test_every_process_of_a_team_ends_by_the_signal(tmp_path, started):
    """Process 0 holds the store, and ends while the other one is in the middle of an attack."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workers = [started(hold_store_and_be_slow, tmp_path, rank, port) for rank in range(2)]
    wait_for((tmp_path / "sleeps").exists)
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    assert statuses(*workers) == [128 + signal.SIGTERM] * 2, (tmp_path / "stderr1").read_text()


def test_a_process_that_waits_for_others_ends_by_the_signal(tmp_path, started):
    worker = started(only_work, tmp_path, 0)
    wait_for((tmp_path / "run" / ".locks" / "rank000.json").exists)
    os.kill(worker.pid, signal.SIGTERM)
    assert statuses(worker) == [128 + signal.SIGTERM]


def test_a_process_that_returns_after_the_end_gets_an_answer(tmp_path, started):
    assert statuses(*(started(only_work, tmp_path, rank) for rank in range(2))) == [0, 0]
    assert statuses(started(only_work, tmp_path, 1)) == [0]
    assert "the job has ended" in (tmp_path / "stderr1").read_text()
    # A job that starts again with this store is not taken for the one that has ended.
    assert statuses(*(started(only_work, tmp_path, rank) for rank in range(2))) == [0, 0]
    assert "the job has ended" not in (tmp_path / "stderr1").read_text()


def wait_for(condition, seconds=100):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        time.sleep(0.02)
