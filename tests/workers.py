"""One process that reads a whole hostile corpus: importing takes longer than reading an entry."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def outcomes_of(worker: Path, folder: Path, seconds: float, **environment: str) -> dict[str, dict[str, object]]:
    """Runs a worker, which makes its entries in a folder and prints one line of JSON about each; the lines by name."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    settings = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", **environment}
    command = [sys.executable, "-B", worker, folder]
    done = subprocess.run(command, capture_output=True, text=True, env=settings, timeout=seconds)
    found = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, f"after {[*found][-1:]}: {done.stderr[-2000:]}"
    return found
