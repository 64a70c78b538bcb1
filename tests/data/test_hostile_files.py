"""Every reader of data over every hostile file: one line of error, no program, no file outside, no bomb, no hang."""

import re
import sys
from pathlib import Path

import hostile_parts  # noqa: F401  it adds files
import pytest
from hostile_files import REGISTRY, TREES
from workers import outcomes_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="FIFOs, and the memory in /proc"),
]

LARGEST = 1024
"""MiB above what the process had before a file was read."""

LONGEST = 4000
"""Characters of an error; `data check` prints the whole tree before it."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """One process for all files."""
    worker = Path(__file__).with_name("hostile_worker.py")
    return outcomes_of(worker, tmp_path_factory.mktemp("hostile") / "files", 850, SEGROBUST_FOLLOW_LINKS="")


@pytest.mark.parametrize("name", REGISTRY)
def test_a_hostile_file_is_refused_by_name(outcomes, name):
    found, says = outcomes[name], re.compile(REGISTRY[name].says)
    for said in found["said"]:
        kind, _, message = said.partition(": ")
        assert kind in ("DataFault", "ValueError"), said
        assert says.search(message), said
        assert message.isprintable(), said
        assert len(message) < LONGEST
    assert found["monitor"] == []
    assert found["mebibytes"] < LARGEST


@pytest.mark.parametrize("group", [group for group in TREES if group not in ("label map", "json")])
def test_the_same_tree_without_the_file_is_read(outcomes, group):
    said = outcomes[f"whole {group}"]["said"]
    assert said
    assert {*said} == {"ok"}


def test_the_monitor_sees_programs_and_files_outside(outcomes):
    started, written = outcomes["what the monitor must see"]["monitor"]
    assert started.startswith("subprocess.Popen ('true'")
    assert written.startswith("open ")
    assert "outside" in written


def test_the_corpus_is_large_and_every_group_has_a_part():
    assert len(REGISTRY) >= 200
    assert {entry.group for entry in REGISTRY.values()} == {*TREES}
