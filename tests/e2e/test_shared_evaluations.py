"""Evaluations under torchrun and srun: one machine, two machines with a disk each, one that is lost and returns."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from evaluation.toy import ToyScenes, comparable, toy_network, toy_plan

from segrobust.evaluation import evaluate, read_records, summarize_run

TESTS = Path(__file__).parent.parent
JOB = TESTS / "e2e" / "evaluation_job.py"

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(280)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "TORCHELASTIC"))}
    return {**kept, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **more}


def torchrun(
    *arguments: object, node: str = "", lost_after: float = 4.0, options: tuple[str, ...]
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", *options, str(JOB), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment(NODE=node, LOST_AFTER=str(lost_after)), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


@contextmanager
def ended(*agents: subprocess.Popen[str]) -> Iterator[None]:
    """No process outlives a test."""
    try:
        yield
    finally:
        for agent in agents:
            kill_session(agent)


def kill_session(agent: subprocess.Popen[str]) -> None:
    """A lost machine: the agent and its workers, none of which can say good-bye."""
    for pid in pids_of_session(agent.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    agent.wait()


def pids_of_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ancestors = {int(entry.name), int(fields[1]), int(fields[3])}
            if session in ancestors:
                found.append(int(entry.name))
    children = [p for p in found if p != session]
    for child in children:
        found += [pid for pid in pids_of_parent(child) if pid not in found]
    return found


def pids_of_parent(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


@pytest.fixture(scope="module")
def expected() -> dict[object, str]:
    return comparable(evaluate(toy_network(), ToyScenes(9), plan=toy_plan(), progress=False, batch_size=2).records)


def count_lines(run_dir: Path) -> int:
    return sum(shard.read_bytes().count(b"\n") for shard in run_dir.rglob("records/*.jsonl"))


def test_torchrun_shares_the_work_and_restarts_a_killed_worker(tmp_path, expected):
    agent = torchrun(
        tmp_path, 9, 2, 0.25, options=("--standalone", "--nproc-per-node=2", "--max-restarts=2", "--monitor-interval=1")
    )
    with ended(agent):
        wait_for(lambda: count_lines(tmp_path) > 6, agent)
        workers = [pid for pid in pids_of_session(agent.pid) if is_worker(pid)]
        os.kill(workers[0], signal.SIGKILL)
        output, _ = agent.communicate(timeout=120)
    assert agent.returncode == 0, output
    assert comparable(read_records(tmp_path)) == expected
    assert summarize_run(tmp_path).missing == 0
    assert (tmp_path / "summary.json").is_file()
    assert (tmp_path / "provenance.jsonl").read_text().count("\n") == 2, "it was started twice"
    assert count_lines(tmp_path) <= len(expected) + 2 * 2 * 4, "more than a batch per process was made again"


def is_worker(pid: int) -> bool:
    try:
        return str(JOB) in (words := Path(f"/proc/{pid}/cmdline").read_text().split("\0")) and "-u" in words
    except FileNotFoundError:
        return False


def wait_for(condition, *agents: subprocess.Popen[str], seconds: float = 120) -> None:
    start = time.monotonic()
    while not condition():
        for agent in agents:
            assert agent.poll() is None, agent.communicate()[0]
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"what was waited for did not come within {seconds} s")
        time.sleep(0.05)


def test_two_machines_with_a_disk_each_bring_their_records_together(tmp_path, expected):
    options = (
        "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}",
        "--rdzv-id=job", "--monitor-interval=1", "--local-addr=127.0.0.1",
    )  # fmt: skip
    agents = [torchrun(tmp_path, 9, 2, 0.3, "own-disk", node=node, options=options) for node in "ab"]
    with ended(*agents):
        outputs = [agent.communicate(timeout=120)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    runs = {node: comparable(read_records(tmp_path / node)) for node in "ab"}
    (leader,) = [node for node in "ab" if (tmp_path / node / "summary.json").is_file()]
    other = "ab".replace(leader, "")
    assert runs[leader] == expected
    assert 0 < len(runs[other]) < len(expected), "both worked"
    assert len(list((tmp_path / leader / "panels").glob("*.png"))) >= 4


def test_a_machine_that_is_lost_and_returns_ends_a_complete_job(tmp_path, expected):
    """The rendezvous is static: with c10d, torch 2.14 often leaves a machine that returns waiting for ever.

    The first machine waits long for the other, whose start takes longer than the work that is left.
    """
    options = (
        "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}",
        "--max-restarts=3", "--monitor-interval=1",
    )  # fmt: skip
    start = [
        lambda rank=rank, node=node: torchrun(
            tmp_path, 9, 2, 0.8, "own-disk", node=node, lost_after=90, options=(*options, f"--node-rank={rank}")
        )
        for rank, node in enumerate("ab")
    ]
    first, second = start[0](), start[1]()
    with ended(first, second):
        wait_for(lambda: count_lines(tmp_path / "b") > 3, first, second)
        kill_session(second)
        third = start[1]()
        with ended(third):
            outputs = [agent.communicate(timeout=120)[0] for agent in (first, third)]
    assert [first.returncode, third.returncode] == [0, 0], outputs
    assert comparable(read_records(tmp_path / "a")) == expected
    assert (tmp_path / "a" / "summary.json").is_file()


def test_what_a_lost_process_leaves_behind_is_done_by_the_first(tmp_path, expected):
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    tasks = [srun(rank, tmp_path, 0.4, address) for rank in range(2)]
    with ended(*tasks):
        wait_for(lambda: (tmp_path / "records" / "rank001.jsonl").exists() and count_lines(tmp_path) > 8, *tasks)
        kill_session(tasks[1])
        output, _ = tasks[0].communicate(timeout=120)
    assert tasks[0].returncode == 0, output
    assert comparable(read_records(tmp_path)) == expected
    assert (tmp_path / "summary.json").is_file()


def srun(rank: int, run_dir: Path, delay: float, address: dict[str, str]) -> subprocess.Popen[str]:
    """One task as srun starts it."""
    variables = {"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": str(rank), **address}
    return subprocess.Popen(
        [sys.executable, str(JOB), str(run_dir), "9", "2", str(delay)],
        env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize("has_store", [True, False])
def test_the_variables_of_srun_are_understood(tmp_path, expected, has_store):
    port = free_port()
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if has_store else {}
    tasks = [srun(rank, tmp_path, 0.05, address) for rank in range(2)]
    with ended(*tasks):
        outputs = [task.communicate(timeout=120)[0] for task in tasks]
    statuses = [task.returncode for task in tasks]
    assert statuses == [0, 0] if has_store else 0 in statuses, outputs
    assert comparable(read_records(tmp_path)) == expected
    assert (tmp_path / "summary.json").is_file()
    shards = [shard.read_bytes().count(b"\n") for shard in (tmp_path / "records").iterdir()]
    assert len(shards) == 2
    assert min(shards) > 0
