"""Workflows, templates and scripts: they parse, and name what exists. The strength of attacks is compared."""

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from benchmarks.strength import FIXED, MINIMAL, STORED, TOLERANCE, norm_ratio, regressions, unbroken_share
from segrobust.attacks import PGD, AlmaProx

ROOT = Path(__file__).parent.parent
CI = ROOT / ".ci"
GITHUB = sorted(path for path in (ROOT / ".github").rglob("*") if path.suffix == ".yml")
WORKFLOWS = [path for path in GITHUB if path.parent.name == "workflows"]
WITHOUT_GATE = {".ci/wheel"}
"""Of workflows and releases: it downloads torch once more; tests/e2e/test_package.py calls the same commands."""
SCRIPT = re.compile(r"\.ci/\w+")


def parsed(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path):
    return [step for job in parsed(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", [*GITHUB, ROOT / ".pre-commit-config.yaml"], ids=lambda path: path.name)
def test_files_of_the_repository_parse(path):
    assert isinstance(parsed(path), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_scripts_that_exist_and_nothing_else(path):
    commands = [step["run"] for step in steps(path) if "run" in step]
    assert commands
    for command in commands:
        assert SCRIPT.fullmatch(command), command
        assert os.access(ROOT / command, os.X_OK), command


def test_workflows_and_the_gate_run_the_same_scripts():
    gate = {line for line in (CI / "run").read_text().splitlines() if SCRIPT.fullmatch(line)}
    assert {step["run"] for path in WORKFLOWS for step in steps(path) if "run" in step} == gate | WITHOUT_GATE


def test_every_script_is_called_or_is_the_gate():
    called = {name for path in CI.iterdir() for name in SCRIPT.findall(path.read_text()) if name != f".ci/{path.name}"}
    assert {f".ci/{path.name}" for path in CI.iterdir()} - called == {".ci/run"} | WITHOUT_GATE


def test_the_versions_that_are_tested_are_those_that_are_promised():
    (tests,) = (job for path in WORKFLOWS for job in parsed(path)["jobs"].values() if "matrix.python" in job["name"]
                and job["name"].startswith("Tests"))  # fmt: skip
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    promised = [entry.rsplit(" ", 1)[1] for entry in classifiers if re.search(r":: 3\.\d+$", entry)]
    assert tests["strategy"]["matrix"]["python"] == promised


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "RELEASING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", ".github/pull_request_template.md"]
)
def test_pages_name_scripts_and_files_that_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in SCRIPT.findall(text):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_a_weaker_attack_is_a_regression_and_a_stronger_one_is_not():
    stored = json.loads(STORED.read_text())
    assert {*stored} == {*MINIMAL, *FIXED}
    assert regressions(stored, stored) == []
    assert regressions({name: 0.5 * value for name, value in stored.items()}, stored) == []
    for name, value in stored.items():
        worse = value * (1 + 1.1 * TOLERANCE) if name in MINIMAL else value + 1.1 * TOLERANCE
        (line,) = regressions(stored | {name: worse}, stored)
        assert line.startswith(f"{name}: ")
        (missing,) = regressions({key: found for key, found in stored.items() if key != name}, stored)
        assert "only stored" in missing
    assert len(regressions(stored | {"new": 1.0}, stored)) == 1
    assert len(regressions(stored | {next(iter(MINIMAL)): float("inf")}, stored)) == 1


def test_fewer_steps_are_weaker():
    stored = json.loads(STORED.read_text())
    assert norm_ratio(AlmaProx(num_steps=40)) > stored["AlmaProx linf, 150 steps"] * (1 + TOLERANCE)
    assert unbroken_share(PGD(num_steps=1, step_size=1e-3)) > stored["PGD, 20 steps"] + TOLERANCE


def test_the_container_copies_what_exists_and_runs_the_documented_command():
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert "segrobust" in copied
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not {*copied} & {*ignored}
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (entry,) = (json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT "))
    assert entry == ["segrobust"]
    assert "segrobust" in scripts
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    arguments = [line.split()[1].split("=")[0] for line in lines if line.startswith("ARG ")]
    assert {*re.findall(r"--build-arg (\w+)", page)} == {*arguments}
