"""What the README shows is run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["report"].summary is not None
    assert namespace["result"].adv.shape == (1, 3, 48, 64)
    assert "alma" in capsys.readouterr().out


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
