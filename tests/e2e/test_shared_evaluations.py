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


def torchrun(*arguments: object, node: str = "", options: tuple[str, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", *options, str(JOB), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment(NODE=node), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
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
        output, _ = agent.communicate(timeout=200)
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
        assert time.monotonic() - start < seconds
        time.sleep(0.05)


def two_nodes(run_dir: Path, delay: float, port: int) -> tuple[tuple[object, ...], tuple[str, ...]]:
    arguments = (run_dir, 9, 2, delay, "own-disk")
    options = (
        "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}",
        "--rdzv-id=job", "--max-restarts=3", "--monitor-interval=1", "--local-addr=127.0.0.1",
        "--rdzv-conf=timeout=100,last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=2",
    )  # fmt: skip
    return arguments, options


def test_two_machines_with_a_disk_each_bring_their_records_together(tmp_path, expected):
    arguments, options = two_nodes(tmp_path, 0.3, free_port())
    agents = [torchrun(*arguments, node=node, options=options) for node in "ab"]
    with ended(*agents):
        outputs = [agent.communicate(timeout=200)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    runs = {node: comparable(read_records(tmp_path / node)) for node in "ab"}
    (leader,) = [node for node in "ab" if (tmp_path / node / "summary.json").is_file()]
    other = "ab".replace(leader, "")
    assert runs[leader] == expected
    assert 0 < len(runs[other]) < len(expected), "both worked"
    assert len(list((tmp_path / leader / "panels").glob("*.png"))) >= 4


@pytest.mark.slow
def test_a_machine_that_is_lost_and_returns_ends_a_complete_job(tmp_path, expected):
    arguments, options = two_nodes(tmp_path, 1.0, free_port())
    first = torchrun(*arguments, node="a", options=options)
    time.sleep(3)  # so that the store is on machine a, which stays
    second = torchrun(*arguments, node="b", options=options)
    with ended(first, second):
        wait_for(lambda: count_lines(tmp_path / "b") > 3, first, second)
        kill_session(second)
        made = count_lines(tmp_path / "b")
        third = torchrun(*arguments, node="b", options=options)
        with ended(third):
            outputs = [agent.communicate(timeout=200)[0] for agent in (first, third)]
    assert [first.returncode, third.returncode] == [0, 0], outputs
    runs = {node: comparable(read_records(tmp_path / node)) for node in "ab"}
    (leader,) = [node for node in "ab" if (tmp_path / node / "summary.json").is_file()]
    assert runs[leader] == expected
    assert made > 0


@pytest.mark.parametrize("has_store", [True, False])
def test_the_variables_of_srun_are_understood(tmp_path, expected, has_store):
    port = free_port()
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if has_store else {}
    tasks = [
        subprocess.Popen(
            [sys.executable, str(JOB), str(tmp_path), "9", "2", "0.05"],
            env=environment(SLURM_PROCID=str(rank), SLURM_STEP_NUM_TASKS="2", SLURM_LOCALID=str(rank), **address),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    with ended(*tasks):
        outputs = [task.communicate(timeout=200)[0] for task in tasks]
    statuses = [task.returncode for task in tasks]
    assert statuses == [0, 0] if has_store else 0 in statuses, outputs
    assert comparable(read_records(tmp_path)) == expected
    assert (tmp_path / "summary.json").is_file()
    shards = [shard.read_bytes().count(b"\n") for shard in (tmp_path / "records").iterdir()]
    assert len(shards) == 2
    assert min(shards) > 0
