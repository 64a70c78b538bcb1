"""Every command over every hostile run: a right result or one line of error, no program, no file outside, no hang."""

import re
import sys
from pathlib import Path

import pytest
from evaluation.hostile_runs import EVERYONE, REGISTRY
from workers import outcomes_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="FIFOs, and the memory in /proc"),
]

LARGEST = 1024
"""MiB above what the process had before a run was read."""

ERRORS = {
    *("DataFault", "ValueError", "ContradictionError", "StoredImageError", "ChangedSampleError", "RunInUseError"),
    *("IsADirectoryError", "NotADirectoryError", "FileExistsError"),
}
SEVERAL_LINES = re.compile(r"holds results of (something else|a network with the same weights)|label spaces differ")
"""Messages that compare two sides, one line each."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """One process for all runs."""
    worker = Path(__file__).with_name("hostile_runs_worker.py")
    return outcomes_of(worker, tmp_path_factory.mktemp("hostile") / "runs", 3500, MPLBACKEND="Agg")


def test_the_whole_run_is_read_by_everyone(outcomes):
    assert outcomes["whole"]["said"] == dict.fromkeys(EVERYONE, "ok")


@pytest.mark.parametrize("name", REGISTRY)
def test_a_hostile_run_is_refused_in_one_line_or_gives_the_same_numbers(outcomes, name):
    entry, found = REGISTRY[name], outcomes[name]
    for who, said in found["said"].items():
        kind, _, message = said.partition(": ")
        if who in entry.refused_by:
            assert said != "ok", who
            assert re.search(entry.says, message), (who, said)
        elif kind == "OtherNumbersError":
            assert entry.other_numbers, who
            continue
        elif not entry.refused_by:
            assert said == "ok", who
        if said != "ok":
            assert kind in ERRORS, (who, said)
            assert len(message) < 4000, who
            lines = message.split("\n")
            assert all(line.isprintable() for line in lines), (who, said)
            assert len(lines) == 1 or SEVERAL_LINES.search(message), (who, said)
    assert found["monitor"] == []
    assert found["mebibytes"] < LARGEST


def test_the_monitor_sees_programs_and_files_outside(outcomes):
    started, written = outcomes["what the monitor must see"]["monitor"]
    assert started.startswith("subprocess.Popen ('true'")
    assert written.startswith("open ")
    assert "elsewhere" in written


def test_the_corpus_is_large():
    assert len(REGISTRY) >= 200
