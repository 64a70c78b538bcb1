import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segrobust.evaluation import read_records

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(900)]  # three interpreters start

TESTS = Path(__file__).parent.parent
JOB = Path(__file__).parent / "lightning_ddp_job.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of the same training on one and on two processes."""
    made = []
    for devices in (1, 2):
        folder = tmp_path_factory.mktemp(f"devices{devices}")
        path = os.pathsep.join((str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")))
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(JOB), str(folder), str(devices)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        made.append(folder)
    return made


def seen(folder, rank):
    return json.loads((folder / f"seen{rank}.json").read_text())


def test_both_processes_see_the_same(folders):
    assert seen(folders[1], 0) == seen(folders[1], 1)


def test_two_processes_train_the_same_weights_as_one(folders):
    """What the comparisons below rest on."""
    assert seen(folders[0], 0)["weights"] == seen(folders[1], 0)["weights"]


def test_two_processes_log_the_numbers_of_one(folders):
    one, two = seen(folders[0], 0), seen(folders[1], 0)
    assert two["history"] == one["history"]
    assert two["kept"] == one["kept"]
    assert len(one["kept"]) == 2
    # its mean over processes counts the image that comes twice
    assert {k: v for k, v in two["logged"].items() if k != "val/clean/loss"} == {
        k: v for k, v in one["logged"].items() if k != "val/clean/loss"
    }


def test_every_image_counts_once(folders):
    """Records of all five images give the scores of the task, whose sampler repeats one of them."""
    logged = seen(folders[1], 0)["logged"]
    assert seen(folders[1], 0)["history"][-1]["num_images"] == 5
    assert logged["val/clean/miou"] == pytest.approx(logged["val/robust_subset/clean_miou"], rel=1e-6)
    assert logged["val/clean/acc"] == pytest.approx(logged["val/robust_subset/clean_acc"], rel=1e-6)


def test_two_processes_write_the_records_of_one(folders):
    rows = []
    for folder in folders:
        runs = sorted((folder / "robustness").iterdir())
        assert len(runs) == 3
        rows.append([[vars(r) | {"seconds": 0} for r in read_records(run)] for run in runs])
    assert rows[0] == rows[1]
    shards = sorted(shard.name for shard in runs[0].glob("records/*"))
    assert shards == ["rank000.jsonl", "rank001.jsonl"]
    assert [r.sample_id for r in read_records(runs[0]) if r.attack == "clean"] == [0, 1, 2, 3, 4]


def test_two_processes_draw_the_panels_of_one(folders):
    drawn = [{p.relative_to(f): p.read_bytes() for p in f.rglob("panels/*.png")} for f in folders]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 3 * 2 * 2
