"""The wheel in an empty folder: what it holds, and what works with nothing else of the repository."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from segrobust.shipped import shipped_files

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "segrobust")
MEGABYTE = 1_000_000


def run(*arguments, folder, **environment):
    """A finished process, started from `folder`."""
    words = list(map(str, arguments))
    return subprocess.run(
        words, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=280, check=False
    )


def build(source, kind, target):
    """A wheel or an sdist, made by setuptools without a network and outside the repository."""
    target.mkdir()
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    done = run(sys.executable, "-c", code, target, folder=source)
    assert done.returncode == 0, done.stderr
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What a release is built from, without what earlier builds left."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build(source, "wheel", tmp_path_factory.mktemp("built") / "wheel")


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder that holds the installed wheel alone; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("site")
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel)
    done = run(sys.executable, *install, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def segrobust(site, tmp_path):
    """Runs the installed command from an empty folder."""

    def call(*arguments):
        return run(site / "bin" / "segrobust", *arguments, folder=tmp_path, PYTHONPATH=str(site))

    return call


def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_the_package_and_nothing_else(wheel, source):
    expected = {path.relative_to(source).as_posix() for path in (source / "segrobust").rglob("*") if path.is_file()}
    assert names(wheel) == expected
    assert {f"segrobust/configs/{name}" for name in shipped_files()} <= names(wheel)
    assert "segrobust/configs/demo/scenes.safetensors" in names(wheel)
    assert "segrobust/evaluation/reporting/html/templates/report.html.j2" in names(wheel)
    assert "segrobust/py.typed" in names(wheel)


def test_the_wheel_is_small(wheel):
    assert wheel.stat().st_size <= 3 * MEGABYTE


def test_the_source_archive_makes_the_same_wheel(source, wheel, tmp_path):
    archive = build(source, "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.name != "sdist")
    assert names(build(unpacked, "wheel", tmp_path / "wheel")) == names(wheel)


def test_the_installed_package_is_the_one_that_is_run(site, tmp_path):
    code = "import segrobust, segrobust.shipped as s; print(segrobust.__file__, s.shipped_path('demo.yaml'))"
    done = run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(site))
    assert all(Path(word).is_relative_to(site) for word in done.stdout.split()), done.stderr
    assert len(done.stdout.split()) == 2


def test_help_names_every_command_and_imports_nothing_heavy(segrobust, site, tmp_path):
    done = segrobust("--help")
    assert done.returncode == 0, done.stderr
    assert segrobust().stdout == done.stdout
    for command in (
        "evaluate",
        "train",
        "report",
        "compare",
        "judge",
        "ensemble",
        "bench",
        "data",
        "configs",
        "completion",
    ):
        assert f"\n  {command} " in done.stdout
    code = (
        "import sys, segrobust.cli as cli, segrobust.cli.interfaces as known\n"
        "for name in ('', 'data', *known.INTERFACES):\n"
        "    sys.argv[1:] = [*name.split(), '--help']; cli.main()\n"
        "print({'torch', 'lightning', 'numpy', 'rich', 'jsonargparse'} & {*sys.modules}, file=sys.stderr)"
    )
    done = run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(site))
    assert done.stderr.strip() == "set()"


def test_an_unknown_command_is_told(segrobust):
    done = segrobust("evalute")
    assert done.returncode == 2
    assert done.stderr == "segrobust: error: there is no command 'evalute': did you mean evaluate?\n"


def test_configurations_are_listed_by_group(segrobust):
    done = segrobust("configs")
    for name in shipped_files():
        assert f"\n  {name} " in done.stdout
    assert "PGD on the cross-entropy, 40 steps" in done.stdout
    one = segrobust("configs", "trainer").stdout
    assert "trainer/ddp.yaml" in one
    assert "attack/" not in one


def test_a_configuration_is_copied_and_never_overwrites(segrobust, tmp_path):
    done = segrobust("configs", "copy", "segrobust:attack/pgd.yaml")
    assert (done.returncode, done.stdout) == (0, "pgd.yaml\n")
    assert (tmp_path / "pgd.yaml").read_bytes() == shipped_files()["attack/pgd.yaml"].read_bytes()
    (tmp_path / "pgd.yaml").write_text("mine")
    again = segrobust("configs", "copy", "attack/pgd.yaml")
    assert again.returncode == 2
    assert "pgd.yaml exists already" in again.stderr
    assert (tmp_path / "pgd.yaml").read_text() == "mine"
    assert segrobust("configs", "copy", "attack/pgd.yaml", "other.yaml").returncode == 0
    assert (tmp_path / "other.yaml").is_file()
    assert "there is no folder nowhere" in segrobust("configs", "copy", "attack/pgd.yaml", "nowhere/x.yaml").stderr
    assert "did you mean attack/pgd.yaml?" in segrobust("configs", "copy", "pgd.yaml").stderr


@pytest.mark.parametrize("command", [("train",), ("evaluate",), ("data", "check")])
def test_a_name_that_is_not_shipped_is_told_with_the_nearest(segrobust, command):
    done = segrobust(*command, "--config", "segrobust:experiment/camvid_pgd.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith(f"segrobust {' '.join(command)}: error: no file 'experiment/camvid_pgd.yaml'")
    assert "did you mean experiment/camvid_pgd_at.yaml" in done.stderr


@pytest.mark.slow
def test_the_demo_network_is_attacked_from_an_empty_folder(segrobust, tmp_path):
    attack = {"fgsm": {"class_path": "segrobust.attacks.FGSM"}}
    done = segrobust(
        *("evaluate", "--config", "segrobust:demo.yaml", "--checkpoint", "segrobust:demo/scenes.safetensors"),
        *("--attacks", json.dumps(attack), "--max-images", "1", "--checks", "off", "--panels", "1"),
    )
    assert done.returncode == 0, done.stderr
    assert "fgsm" in done.stdout
    (run_directory,) = (tmp_path / "runs" / "demo").glob("evaluation-*")
    assert (run_directory / "report.html").is_file()
    again = segrobust("report", run_directory)
    assert (again.returncode, "fgsm" in again.stdout) == (0, True), again.stderr


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_train_the_demo_network_from_an_empty_folder(segrobust, tmp_path):
    """Lightning starts the second process by the command line of the first."""
    done = segrobust(
        *("train", "--config", "segrobust:demo.yaml", "--config", "segrobust:trainer/ddp.yaml"),
        *("--model.init_args.initial_weights", "segrobust:demo/scenes.safetensors"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.max_epochs", "1"),
        *("--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1", "--trainer.callbacks", "null"),
    )
    assert done.returncode == 0, done.stderr
    assert "MEMBER: 2/2" in done.stderr
    assert (tmp_path / "runs" / "demo" / "weights.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_a_bare_command_says_first_what_it_does(site, tmp_path, command):
    words = [site / "bin" / "segrobust", command]
    with subprocess.Popen(
        words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        first = process.stderr.readline()
        process.kill()
    assert first.startswith("segrobust 0.1.0 ")
    assert "demo network" in first
