"""The tutorial on files of somebody else: its commands and its code, as they stand on the page, on such files."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rasterio", reason="writes and reads TIFFs of several bands")

from e2e.stranger import write_files

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parent.parent.parent / "docs" / "own_files.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- own files: ([^\n]+) -->\n```\w+\n(.*?)```", flags=re.DOTALL)
CODE = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write_files(folder)
    for kind, text in BLOCK.findall(PAGE):
        if kind == "command":
            command = shlex.split(text.replace("segrobust", f"{sys.executable} -m segrobust", 1))
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
        else:
            assert "values: [0, 255]" in (folder / kind).read_text(encoding="utf-8")  # what was proposed
            (folder / kind).write_text(text, encoding="utf-8")
    return folder


def run(folder, code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )


def test_it_takes_at_most_twelve_lines():
    assert 0 < len([line for line in CODE.splitlines() if line]) <= 12


def test_the_code_of_the_page_gives_a_number(folder):
    done = run(folder, CODE)
    assert done.returncode == 0, done.stderr
    clean = re.search(r"clean +mIoU\^D ([0-9.]+)", done.stdout)
    attacked = re.search(r"^pgd +4 +([0-9.]+)", done.stdout, flags=re.MULTILINE)
    assert float(clean[1]) > 90
    assert float(attacked[1]) < float(clean[1])
    assert "4/255 of the range (= 157 of 10000)" in done.stdout
    assert (folder / "look.png").exists()
    assert (folder / "runs" / "fields" / "report.html").exists()


def test_a_forgotten_wrapper_is_named(folder):
    code = CODE.replace(", channels=(1, 2))", "").replace("ClassOrder(ColorOrder(", "ColorOrder(")
    code = code.replace("runs/fields", "runs/other")
    assert code.count("ClassOrder") == 1  # its import
    done = run(folder, code)
    assert re.search(r"ClassOrder\(network, channels=range\(1, 3\)\) gives mIoU 9\d", done.stderr)
