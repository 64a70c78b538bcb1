import json
import re
from pathlib import Path

import pytest
import torch
from evaluation.toy import CRITERION, NUM_CLASSES, ToyScenes, comparable, toy_network, toy_plan
from torch import nn
from torch.utils.data import Subset

import segrobust
from segrobust.attacks import FGSM, PGD
from segrobust.evaluation import Distributed, Job, Plan, evaluate, read_records, summarize, summarize_run
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.run.strict_json import portable
from segrobust.label_space import LabelSpace
from segrobust.networks import NetworkRecord, Normalized


class Known(nn.Module):
    """A network whose source records its classes."""

    def __init__(self, *names):
        super().__init__()
        self.inner = toy_network()
        self.record = NetworkRecord(source="a library's network", num_classes=len(names), class_names=names)

    def forward(self, images):
        return self.inner(images)


@pytest.mark.parametrize(("names", "told"), [(("a", "b"), "has 2 classes"), (("a", "c", "b", "d"), "2 differ")])
def test_classes_of_network_and_data_that_differ_are_refused(names, told):
    data = ToyScenes(1)
    data.label_space = LabelSpace(names=("a", "b", "c", "d"), palette=((0, 0, 0),) * NUM_CLASSES)
    settings = {"plan": toy_plan(), "progress": False}
    with pytest.raises(ValueError, match=rf"a library's network.*(?:{told}).*a, b, c, d|{told}") as refused:
        evaluate(Known(*names), data, **settings)
    assert "accept_mismatch=True" in str(refused.value)
    assert all(name in str(refused.value) for name in names)
    report = evaluate(Known(*names), data, accept_mismatch=True, **settings)
    assert comparable(report.records) == comparable(evaluate(toy_network(), data, **settings).records)
    evaluate(Known("A", "b", "C ", "d"), data, **settings)  # written otherwise


def lines_of(report):
    return {record.to_line() for record in report.records}


class CountedNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = toy_network()
        self.passes = 0

    def forward(self, images):
        self.passes += 1
        return self.inner(images)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    report = evaluate(toy_network(), ToyScenes(5), plan=toy_plan(), run_dir=directory, panels=2, progress=False)
    return directory, report


def test_a_run_leaves_everything_in_its_directory(finished):
    directory, report = finished
    assert sorted(path.name for path in directory.iterdir()) == [
        ".locks", "adversarials", "checks", "manifest.json", "network.json", "panels", "pictures", "progress.json",
        "provenance.jsonl", "records", "report.html", "summary.json", "summary.md", "tables",
    ]  # fmt: skip
    written = json.loads((directory / "summary.json").read_text())
    assert (len(written.pop("checks")), written.pop("faults")) == (len(report.checks), [])
    assert written == portable(report.summary.to_dict())
    assert sorted(path.name for path in (directory / "pictures").iterdir()) == ["asr_linf.png", "scores_linf.png"]
    for job in ("alma", "pgd"):  # two that are drawn, the worst and the median
        assert len(list((directory / "panels").glob(f"*-{job}.png"))) == 4
    assert report.missing == 0
    assert report.summary == summarize(read_records(directory))


def test_the_report_is_made_again_from_files(finished):
    directory, report = finished
    again = summarize_run(directory)
    assert lines_of(again) == lines_of(report)
    assert (again.summary, again.heading) == (report.summary, report.heading)
    assert str(again) == str(report)


def test_files_and_memory_give_the_same_records(finished):
    report = segrobust.evaluate(toy_network(), ToyScenes(5), plan=toy_plan(), progress=False, batch_size=2)
    assert comparable(report.records) == comparable(finished[1].records)
    assert report.directory is None


def test_provenance_names_circumstances_and_no_environment(finished, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    (line,) = (finished[0] / "provenance.jsonl").read_text().splitlines()
    data = json.loads(line)
    assert set(data) == {"time", "command", "device", "threads", "batch_size", "world_size", "commit", "versions"}
    assert f"torch {torch.__version__.split('+')[0]}" in " ".join(data["versions"])


def test_the_same_call_again_only_reads(tmp_path):
    network, settings = CountedNetwork(), {"plan": toy_plan(), "run_dir": tmp_path, "panels": 0, "progress": False}
    first = evaluate(network, ToyScenes(3), **settings)
    worked, network.passes = network.passes, 0
    assert lines_of(evaluate(network, ToyScenes(3), **settings)) == lines_of(first)
    assert network.passes == 6 < worked  # the measured pass, one to warm up, and two on each image of the probe


def test_one_more_attack_adds_its_records_alone(tmp_path):
    fgsm = Job(name="fgsm", attack=FGSM(criterion=CRITERION), eps=(16 / 255,))
    settings = {"run_dir": tmp_path, "panels": 0, "progress": False}
    first = evaluate(toy_network(), ToyScenes(3), plan=toy_plan(), **settings)
    both = evaluate(toy_network(), ToyScenes(3), plan=Plan(jobs=(*toy_plan().jobs, fgsm)), **settings)
    added = {record.key for record in both.records} - {record.key for record in first.records}
    assert added == {(i, fgsm.digest, 16 / 255) for i in range(3)}
    assert lines_of(first) < lines_of(both)
    alone = evaluate(toy_network(), ToyScenes(3), plan=Plan(jobs=(fgsm,)), **settings)
    assert lines_of(alone) == lines_of(both)
    assert alone.missing == 0


def test_more_images_join_those_that_are_there(tmp_path):
    settings = {"plan": toy_plan(), "run_dir": tmp_path, "panels": 0, "progress": False}
    few = evaluate(toy_network(), ToyScenes(6), max_images=2, **settings)
    more = evaluate(toy_network(), ToyScenes(6), max_images=4, **settings)
    assert len({record.sample_id for record in few.records}) == 2
    assert lines_of(few) < lines_of(more)
    few_again = evaluate(toy_network(), ToyScenes(6), max_images=2, **settings)
    assert lines_of(few_again) == lines_of(few)


@pytest.mark.parametrize("content", ["manifest", "weights", "data", "normalisation"])
def test_a_directory_of_something_else_is_refused(finished, content):
    directory, _ = finished
    network, dataset, settings = toy_network(), ToyScenes(5), {}
    if content == "weights":
        network = toy_network(seed=1)
    elif content == "data":
        dataset = Subset(ToyScenes(5), [1, 0, 2, 3, 4])
    elif content == "normalisation":
        network = Normalized(toy_network(), mean=(0.5,) * 3, std=(0.2,) * 3).double()
    else:
        settings["seed"] = 1
    named = {"manifest": "seed: 0 there, 1 now", "weights": "weights", "data": r"0 \(toy_0\)", "normalisation": "norm"}
    with pytest.raises(ValueError, match=named[content]):
        evaluate(network, dataset, plan=toy_plan(), run_dir=directory, panels=2, progress=False, **settings)


def test_a_directory_that_cannot_be_written_stops_before_the_network_runs(tmp_path):
    (tmp_path / "file").write_text("")
    network = CountedNetwork()
    with pytest.raises(ValueError, match="cannot be written"):
        evaluate(network, ToyScenes(2), plan=toy_plan(), run_dir=tmp_path / "file", progress=False)
    assert network.passes == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "quick", "plan": toy_plan()}, "preset and plan"),
        ({"eps": (0.1,)}, "eps"),
        ({"plan": toy_plan(), "distributed": Distributed(world_size=2)}, "run_dir"),
        ({"plan": toy_plan(), "keep_adversarials": True}, "run_dir"),
        ({"plan": toy_plan(), "max_images": 0}, "max_images"),
        ({"attacks": {"a": PGD()}, "eps": (8,)}, "8/255"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate(toy_network(), ToyScenes(2), progress=False, **settings)


def test_the_label_space_of_the_data_rules():
    dataset = ToyScenes(2)
    names = tuple(f"class {index}" for index in range(NUM_CLASSES + 1))
    dataset.label_space = LabelSpace(names=names, palette=((0, 0, 0),) * len(names))
    with pytest.raises(ValueError, match="predicts 4 classes, the data set has 5"):
        evaluate(toy_network(), dataset, plan=toy_plan(), progress=False)
    with pytest.raises(ValueError, match="void is 255"):
        evaluate(toy_network(), dataset, plan=toy_plan(), ignore_index=254, progress=False)


def test_a_dry_run_measures_and_writes_nothing(tmp_path):
    network = CountedNetwork()
    report = evaluate(network, ToyScenes(4), plan=toy_plan(), run_dir=tmp_path / "run", dry_run=True)
    assert network.passes == 2
    assert not (tmp_path / "run").exists()
    assert report.records == ()
    assert report.estimate.seconds > 0
    assert "whole evaluation" in str(report)


def test_the_run_says_what_it_does_on_stderr(tmp_path, capfd):
    report = evaluate(toy_network(), ToyScenes(2), plan=toy_plan(), run_dir=tmp_path, panels=0)
    out, err = capfd.readouterr()
    assert out == ""
    for part in ("ToyScenes, 2 images", "AlmaProx(num_steps=12", "cpu, 1 threads", "float64", "seed 0", str(tmp_path)):
        assert part in err.replace("\n", "")
    assert report.heading in err
    report.print()
    assert re.search(r"clean\s+mIoU\^D", capfd.readouterr().out)


def test_an_unfinished_run_says_so(tmp_path, finished):
    directory, report = finished
    manifest = (directory / "manifest.json").read_text()
    (tmp_path / "records").mkdir()
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "records" / "rank000.jsonl").write_text("".join(r.to_line() + "\n" for r in report.records[:-4]))
    partial = summarize_run(tmp_path)
    assert partial.missing == 4
    text = str(partial)
    assert "4 records are missing" in text
    assert not RunDirectory(tmp_path).summary.exists()
    named = [Path(line.split(maxsplit=1)[1]) for line in text.splitlines() if str(tmp_path) in line]
    assert named == [tmp_path / "records"]
    assert "last finished evaluation" not in text
    RunDirectory(tmp_path).summary.write_text("{}")
    assert "report and summary are those of the last finished evaluation" in str(summarize_run(tmp_path))


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        summarize_run(tmp_path)


def test_radii_that_no_attack_uses_are_named():
    attacks = {"p": PGD(num_steps=1, eps=2 / 255)}
    with pytest.warns(
        UserWarning, match=r"eps=\(0.0313\d+,\) has no effect, because all attacks have radii of their own"
    ):
        report = evaluate(toy_network(), ToyScenes(1), attacks=attacks, eps=(8 / 255,), checks="off")
    assert {record.eps for record in report.records} == {None, 2 / 255}
