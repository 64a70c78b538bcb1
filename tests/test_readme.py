"""What the README shows is run."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segrobust.cli import evaluate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def write_folder(root):
    """A newcomer's images and masks: three pictures, nine classes, some void."""
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind / "val").mkdir(parents=True)
    (root / "classes.yaml").write_text(yaml.safe_dump({"names": [f"class {i}" for i in range(9)]}))
    for name in "abc":
        pixels = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        labels = generator.integers(0, 9, (48, 64), dtype=np.uint8)
        labels[:4] = 255
        Image.fromarray(pixels).save(root / "images" / "val" / f"{name}.jpg")
        Image.fromarray(labels).save(root / "masks" / "val" / f"{name}.png")


def test_python_blocks_run_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "my_data")
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["report"].summary.num_images == 3
    assert namespace["result"].adv.shape == (1, 3, 48, 64)
    assert "alma" in capsys.readouterr().out


def test_the_folder_is_looked_at_by_the_command_that_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "my_data")
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
