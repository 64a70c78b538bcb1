"""Files that come with the package, by name."""

from pathlib import Path

import pytest

from segrobust.attacks.targets import LabelMap
from segrobust.shipped import resolve, resolve_arguments, shipped_files, shipped_path

ROOT = Path(__file__).parent.parent


def test_the_top_level_folder_is_the_shipped_one():
    """A clone names `configs/...`; the files themselves lie in the package."""
    link = ROOT / "configs"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    seen = {path.relative_to(link).as_posix() for path in link.rglob("*") if path.is_file()}
    assert seen == set(shipped_files())


@pytest.mark.parametrize("name", ["attack/pgd.yaml", "segrobust:attack/pgd.yaml"])
def test_a_name_leads_to_its_file(name):
    assert shipped_path(name).samefile(ROOT / "configs" / "attack" / "pgd.yaml")


@pytest.mark.parametrize("name", ["experiment/camvid_pgd", "experiments/camvid_pgd_at.yaml"])
def test_the_nearest_names_are_told(name):
    with pytest.raises(ValueError, match=r"did you mean experiment/camvid_pgd_at\.yaml or .*`segrobust configs`"):
        shipped_path(name)
    with pytest.raises(ValueError, match=r"did you mean attack/pgd\.yaml\? "):
        shipped_path("pgd.yaml")


@pytest.mark.parametrize("name", ["", "attack", "../__init__.py", "attack/../demo.yaml", "/etc/hostname", "qqqqqqqqqq"])
def test_only_listed_files_have_a_name(name):
    with pytest.raises(ValueError, match="comes with segrobust"):
        shipped_path(name)


def test_paths_stay_what_they_are():
    assert resolve("attack/pgd.yaml") == Path("attack/pgd.yaml")
    assert resolve(Path("x") / "segrobust:y") == Path("x/segrobust:y")


def test_arguments_of_a_command_line():
    file = str(shipped_path("demo.yaml"))
    given = [
        "--config",
        "segrobust:demo.yaml",
        "--config=segrobust:demo.yaml",
        "--config",
        "demo.yaml",
        "--x=a=b",
        "-h",
    ]
    assert list(resolve_arguments(given)) == [
        "--config", file, f"--config={file}", "--config", "demo.yaml", "--x=a=b", "-h",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="demo_evaluation"):
        list(resolve_arguments(["--config=segrobust:demo_evaluate.yaml"]))


def test_a_label_map_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name = LabelMap(path="segrobust:attack/scenes_majority.png")
    assert by_name.identity == LabelMap(path=str(ROOT / "configs" / "attack" / "scenes_majority.png")).identity
