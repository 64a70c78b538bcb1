"""Every command over every hostile bench: a right result or an error, no program, no file outside, no hang."""

import re
import sys
from pathlib import Path

import pytest
from evaluation.hostile_benches import BENCHES, EVERY_COMMAND
from workers import outcomes_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="FIFOs, and the memory in /proc"),
]

LARGEST = 1024
"""MiB above what the process had before a bench was read."""

SEVERAL_LINES = "only a bench that is verified is lowered"
"""The message that lists what is not true."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """One process for all benches."""
    worker = Path(__file__).with_name("hostile_benches_worker.py")
    return outcomes_of(worker, tmp_path_factory.mktemp("hostile") / "benches", 850, MPLBACKEND="Agg")


def test_the_whole_bench_is_read_by_every_command(outcomes):
    assert outcomes["whole"]["said"] == dict.fromkeys(EVERY_COMMAND, "ok")


@pytest.mark.parametrize("name", BENCHES)
def test_a_hostile_bench_is_refused_or_is_true(outcomes, name):
    entry, found = BENCHES[name], outcomes[name]
    for who, said in found["said"].items():
        kind, _, message = said.partition(": ")
        assert (said != "ok") == (who in entry.refused_by), (who, said)
        if said != "ok":
            assert re.search(entry.says, message), (who, said)
            assert kind == "ValueError", (who, said)
            assert len(message) < 4000, who
            lines = message.split("\n")
            assert all(line.isprintable() for line in lines), (who, said)
            assert len(lines) == 1 or SEVERAL_LINES in message, (who, said)
    assert found["monitor"] == []
    assert found["mebibytes"] < LARGEST


def test_the_corpus_is_large():
    assert len(BENCHES) >= 100
