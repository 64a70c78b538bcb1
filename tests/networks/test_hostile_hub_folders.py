"""`load_network` over every hostile folder: one line of error or a network, no code, no file outside, no bomb."""

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="folders of networks of transformers")
pytest.importorskip("segmentation_models_pytorch", reason="folders of networks of Segmentation Models PyTorch")

from networks.hostile_hub_folders import BESIDE, FOLDERS
from workers import outcomes_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="FIFOs, and the memory in /proc"),
]

LARGEST = 1024
"""MiB above what the process had before a folder was read."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """One process for all folders."""
    worker = Path(__file__).with_name("hostile_hub_folders.py")
    return outcomes_of(worker, tmp_path_factory.mktemp("hostile") / "folders", 550, HF_HUB_OFFLINE="1")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_folder_is_refused_in_one_line_or_gives_a_network(outcomes, name):
    entry, found = FOLDERS[name], outcomes[name]
    kind, _, message = found["said"].partition(": ")
    if entry.says:
        assert kind in ("ValueError", "DataFault"), found["said"]
        assert re.search(entry.says, message), found["said"]
        assert message.isprintable(), found["said"]
        assert len(message) < 4000
    else:
        assert kind == "ok", found["said"]
    assert found["monitor"] == []
    assert found["mebibytes"] < LARGEST


def test_the_whole_folders_are_loaded_and_nothing_runs(outcomes):
    assert [outcomes[f"whole {library}"]["said"] for library in BESIDE] == ["ok", "ok"]
    assert outcomes["owned"]["said"] == "False"
    assert outcomes["what the monitor must see"]["monitor"][0].startswith("subprocess.Popen ('true'")
