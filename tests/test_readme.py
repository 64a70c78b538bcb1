"""What the README names is there, and its commands work; its Python blocks run in test_docs.py."""

import re
from pathlib import Path

import pytest
from dataset_trees import write_own_folder

from segrobust.cli import evaluate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_folder_is_looked_at_by_the_command_that_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own_folder(tmp_path / "my_data", 9)
    (arguments,) = re.findall(r"`python evaluate.py (data check [^`]+)`", README)
    monkeypatch.setattr("sys.argv", ["evaluate.py", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        evaluate()
    assert not ended.value.code
    assert (tmp_path / "look.png").stat().st_size > 1000


def test_own_network_takes_ten_lines():
    block = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    assert len([line for line in block.splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:configs|docs|benchmarks)/[\w./]+\w", README))))
def test_paths_exist(path):
    assert (ROOT / path).exists()


def test_links_lead_somewhere():
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if not t.startswith("http")]
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_test_command_is_what_the_gate_finds():
    gate = (ROOT / ".ci" / "run").read_text()
    command = re.search(r"<!-- test command -->\n```sh\n(.+)\n```\n<!-- end -->", README)
    assert command is not None
    assert command[1].endswith(".venv/bin/python -m pytest")
    assert "test command" in gate
