import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import wandb
from callbacks.wandb_file import wandb_records
from evaluation.toy import CRITERION, ToyScenes, toy_network

from segrobust.attacks import FGSM, PGD, AlmaProx
from segrobust.callbacks.wandb_evaluation import (
    CHECK_COLUMNS,
    MAX_PANELS,
    RESULT_COLUMNS,
    WandbOptions,
    log_evaluation,
    require_wandb,
    run_id,
)
from segrobust.evaluation import Manifest, RunDirectory, evaluate, plan_attacks
from segrobust.evaluation.checks import Check, write_checks

OFFLINE = WandbOptions(project="tests", entity="team", name="toy", group="networks", tags=("a", "b"), mode="offline")
EPS = (16 / 255, 64 / 255)


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """A machine on which nobody has logged in to wandb, whose files all go to the temporary folder."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DISABLED", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.setenv(name, "")  # so that what wandb sets is undone, even where there was nothing
        monkeypatch.delenv(name)
    for name in ("WANDB_CONFIG_DIR", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def directory(tmp_path):
    """A run of three attacks on four images, one of them void, with a check that fails for one attack."""
    attacks = {
        "alma": AlmaProx(num_steps=12, step_size=0.05, criterion=CRITERION),
        "pgd": PGD(num_steps=4, criterion=CRITERION),
        "fgsm": FGSM(criterion=CRITERION),
    }
    plan = plan_attacks(attacks, EPS)
    directory = RunDirectory(tmp_path / "run")
    evaluate(toy_network(), ToyScenes(4), plan=plan, run_dir=directory.path, progress=False, panels=2)
    failed = Check(
        name="steps", status="fail", detail="d", meaning="m", fix="more steps", attacks=(plan.jobs[1].digest,)
    )
    manifest = Manifest.read(directory.manifest)
    write_checks(directory.attack_checks(manifest.planned), [failed], weights=manifest.weights)
    return directory


class Logged:
    """What the file of an offline run holds."""

    def __init__(self, folder):
        wandb.teardown()  # waits for the process that writes
        (file,) = folder.glob("*.wandb")
        self.folder, self.metrics, self.history, self.config = folder, {}, {}, {}
        self.summary, self.artifacts, self.run = {}, [], None
        for record in wandb_records(file):
            for item in record.history.item:
                put(self.history, [*item.nested_key] or [item.key], json.loads(item.value_json))
            for item in record.summary.update:
                put(self.summary, [*item.nested_key] or [item.key], json.loads(item.value_json))
            if record.metric.name:
                self.metrics[record.metric.name] = record.metric.summary
            if record.WhichOneof("record_type") == "artifact":
                self.artifacts.append(record.artifact)
            if record.run.run_id and self.run is None:
                self.run = record.run
                self.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}

    def table(self, key):
        content = json.loads((self.folder / "files" / self.history[key]["path"]).read_text())
        return content["columns"], content["data"]


def put(tree, path, value):
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def log(directory, options=OFFLINE):
    return Logged(Path(log_evaluation(directory, options)))


def test_the_summary_holds_every_number_in_its_sense(directory, no_account):
    logged = log(directory)
    summary = json.loads(directory.summary.read_text())
    alma = summary["minimal_norm"][0]
    pgd = next(entry for entry in summary["fixed_budget"] if entry["attack"] == "pgd")["scores"][0]
    worst = summary["worst_case"][0]["scores"][1]
    expected = {
        "eval/clean/miou": ("max", summary["clean"]["values"]["miou"]),
        "eval/clean/acc": ("max", summary["clean"]["values"]["accuracy"]),
        "eval/clean/apsr": ("min", summary["clean"]["values"]["mean_apsr"]),
        "eval/alma/asr": ("min", alma["values"]["asr"]),
        "eval/alma/median_norm": ("max", alma["values"]["median_capped"]),
        "eval/alma/by_product_miou_at_16": ("max", alma["by_products"][0]["values"]["miou"]),
        "eval/pgd/miou_at_16": ("max", pgd["values"]["miou"]),
        "eval/pgd/acc_at_16": ("max", pgd["values"]["accuracy"]),
        "eval/pgd/apsr_at_16": ("min", pgd["values"]["mean_apsr"]),
        "eval/pgd/asr_at_16": ("min", pgd["values"]["asr"]),
        "eval/worst_linf/miou_at_64": ("max", worst["values"]["miou"]),
        "eval/any_linf/asr_at_64": ("min", summary["any_attack"][0]["asr"][1]),
    }
    for key, (sense, value) in expected.items():
        assert logged.summary[key] == {sense: pytest.approx(value)}, key
        assert (logged.metrics[key].max, logged.metrics[key].min) == (sense == "max", sense == "min"), key
        assert logged.history[key] == pytest.approx(value)
    assert len({round(value, 6) for _, value in expected.values()}) > 6
    plain = {key for key, value in logged.history.items() if key.startswith("eval/") and not isinstance(value, dict)}
    numbers = {key: logged.summary[key] for key in plain}
    assert {*numbers} == {*logged.metrics}
    assert all(math.isfinite(number) for value in numbers.values() for number in value.values())
    assert logged.summary["eval/checks/status"] == "fail"


def test_tables_stand_beside_the_checks(directory, no_account):
    logged = log(directory)
    columns, rows = logged.table("eval/results")
    assert columns == [*RESULT_COLUMNS]
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    kinds = defaultdict(list)
    for row in named:
        kinds[row["kind"]].append(row)
    counts = {kind: len(found) for kind, found in kinds.items()}
    assert counts == {
        "clean": 1,
        "minimal-norm": 1,
        "worst case": 2,
        "fixed-budget": 4,
        "by-product": 2,
        "any attack": 2,
    }
    (norms,) = kinds["minimal-norm"]
    assert (norms["attack"], norms["eps"], norms["norm"], norms["images"]) == ("alma", "min", "linf", 3)
    assert norms["median norm"].endswith("/255") or norms["median norm"] == "not reached"
    assert all(row["bound"] for row in named)
    statuses = {row["attack"]: row["checks"] for row in kinds["fixed-budget"]}
    assert statuses["pgd"] == "fail"
    assert statuses["fgsm"] != "fail"
    assert kinds["fixed-budget"][0]["mIoU^D"] == pytest.approx(logged.history["eval/pgd/miou_at_16"])
    assert kinds["fixed-budget"][0]["eps"] == "16/255"
    columns, rows = logged.table("eval/checks/table")
    assert columns == [*CHECK_COLUMNS]
    assert ["steps", "fail", "pgd", "d", "m", "more steps"] in rows
    assert len(rows) > 1


def test_without_checks_nothing_is_vouched_for(directory, no_account):
    for file in directory.network_checks.parent.glob("*.json"):
        file.unlink(missing_ok=True)
    logged = log(directory)
    assert logged.summary["eval/checks/status"] == "not checked"
    columns, rows = logged.table("eval/results")
    status = columns.index("checks")
    assert {row[status] for row in rows[1:]} == {"not checked"}  # behind the images as they are


def test_panels_are_shown_and_files_are_an_artifact(directory, no_account):
    panels = sorted(path.stem for path in directory.panels.glob("*.png"))
    logged = log(directory)
    shown = logged.history["eval/panels"]
    assert shown["captions"] == panels[:MAX_PANELS]
    assert all((logged.folder / "files" / name).stat().st_size > 100 for name in shown["filenames"])
    (report,) = [artifact for artifact in logged.artifacts if artifact.type == "robustness-report"]
    manifest = Manifest.read(directory.manifest)
    assert report.name == f"robustness-{manifest.weights[:16]}"
    paths = {entry.path for entry in report.manifest.contents}
    assert {"summary.json", "records/rank000.jsonl"} <= paths
    parts = ("report.html", "summary.md", *(f"tables/{path.name}" for path in directory.path.glob("tables/*")))
    assert paths >= {part for part in parts if (directory.path / part).exists()}
    assert not any(path.startswith(("adversarials", "wandb")) for path in paths)
    assert sorted(path.stem for path in directory.panels.glob("*.png")) == panels


def test_the_run_says_what_was_evaluated_and_is_the_same_when_more_is_known(directory, no_account):
    logged = log(directory)
    manifest = Manifest.read(directory.manifest)
    assert (logged.run.project, logged.run.entity, logged.run.display_name) == ("tests", "team", "toy")
    assert (logged.run.run_group, [*logged.run.tags], logged.run.job_type) == ("networks", ["a", "b"], "evaluation")
    assert logged.run.run_id == run_id(manifest)
    assert logged.run.resume
    assert logged.config["weights"] == manifest.weights
    assert logged.config["attacks"]["pgd"]["attack"] == repr(PGD(num_steps=4, criterion=CRITERION))
    assert logged.config["num_samples"] == 4
    assert "samples" not in logged.config
    assert run_id(replace(manifest, samples=(1,), attacks=manifest.attacks[:1])) == run_id(manifest)
    for field in ("weights", "data", "criterion"):
        assert run_id(replace(manifest, **{field: "other"})) != run_id(manifest)


def test_a_later_call_replaces_the_numbers(directory, no_account):
    first = log(directory)
    evaluate(
        toy_network(),
        ToyScenes(4),
        attacks={"pgd": PGD(num_steps=4, criterion=CRITERION)},
        eps=EPS,
        run_dir=directory.path,
        max_images=2,
        progress=False,
        panels=0,
    )
    second = log(directory)
    assert first.run.run_id == second.run.run_id
    assert second.config["num_samples"] == 2
    assert second.summary["eval/clean/miou"] != first.summary["eval/clean/miou"]


def test_online_without_account_is_refused_before_the_work(no_account, monkeypatch):
    online = WandbOptions(project="tests")
    with pytest.raises(ValueError, match=r"WANDB_API_KEY(.|\n)*offline"):
        require_wandb(online)
    require_wandb(OFFLINE)
    monkeypatch.setenv("WANDB_MODE", "offline")
    require_wandb(online)
    with pytest.raises(ValueError, match="contradicts WANDB_MODE=offline"):
        require_wandb(replace(online, mode="online"))
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    wandb.teardown()
    require_wandb(replace(online, mode="online"))


def test_a_folder_without_run_is_refused(tmp_path, no_account):
    with pytest.raises(ValueError, match="holds no run"):
        log_evaluation(RunDirectory(tmp_path), OFFLINE)
