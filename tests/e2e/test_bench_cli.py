"""The commands of the bench, and the bench of the repository: its numbers are true and its page is up to date."""

import json
import shutil
from pathlib import Path

import pytest

from segrobust.cli.bench_command import bench_command
from segrobust.cli.bench_subjects import arguments_of
from segrobust.evaluation.bench.bench_consistency import read_bench
from segrobust.evaluation.bench.bench_file import bench_files
from segrobust.evaluation.bench.leaderboard import leaderboard

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"


def test_the_bench_of_the_repository_is_true(capsys):
    bench_command(["verify", "--folder", str(BENCH), "--batch_size", "4"])
    printed = capsys.readouterr().out
    assert "demo_linf.json: 36 cells verified, 0 problems" in printed
    assert "demo_l2.json: 4 cells verified, 0 problems" in printed
    assert "not at hand" not in printed


def test_the_page_of_the_bench_is_up_to_date():
    assert (ROOT / "docs" / "leaderboard.md").read_text() == leaderboard(BENCH)


def test_the_bench_is_small_and_holds_what_its_files_name():
    files = [path for path in BENCH.rglob("*") if path.is_file() and ".locks" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 3_000_000
    named = {witness for path in bench_files(BENCH) for witness in read_bench(path).named}
    assert {path.stem for path in files if path.suffix == ".witness"} == named
    assert {path.suffix for path in files} == {".json", ".witness", ".sample"}
    images = {image.sample for path in bench_files(BENCH) for image in read_bench(path).images}
    assert {path.stem for path in files if path.suffix == ".sample"} == images


def test_a_number_that_is_not_true_gives_status_1(tmp_path, capsys):
    folder = Path(shutil.copytree(BENCH, tmp_path / "bench"))
    (folder / "demo_linf.json").unlink()
    path = folder / "demo_l2.json"
    file = json.loads(path.read_text())
    file["entries"][0]["norm"] *= 0.5
    path.write_text(json.dumps(file))
    with pytest.raises(SystemExit) as ended:
        bench_command(["verify", "--folder", str(folder)])
    assert ended.value.code == 1
    assert "image 2 (scene_0_val_000002)" in capsys.readouterr().out


def test_a_network_that_is_not_at_hand_is_listed(tmp_path, capsys):
    (tmp_path / "stranger_linf.json").write_text("{}")
    bench_command(["verify", "--folder", str(tmp_path)])
    assert "not verified, its network or data are not at hand" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "--folder", "nowhere"], "holds no bench"),
        (["submit", "run"], "--name is missing"),
        (["submit", "run", "--name", "stranger"], "does not come with segrobust"),
        (["submit", "run", "--name", "demo"], "holds no run"),
        (["page", "--folder", "nowhere"], "holds no bench"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        bench_command(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_settings_never_come_from_the_folder_of_a_bench(tmp_path, monkeypatch):
    """A folder that somebody sent could bring a configuration, which is code that is run."""
    (tmp_path / "benchmarks" / "networks").mkdir(parents=True)
    (tmp_path / "benchmarks" / "networks" / "stranger.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGROBUST_CAMVID", str(tmp_path))
    assert arguments_of("stranger") is None
    assert arguments_of("../demo") is None
    assert all(str(tmp_path) not in word for word in arguments_of("camvid_robust"))
