"""A process without a team whose work shows nothing is reported; debuggers and notebooks are not ended."""

import time

import pytest
import torch
from evaluation.toy import ToyScenes, toy_network, toy_plan

from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.evaluation import Distributed, evaluate
from segrobust.evaluation.dataset import load_sample
from segrobust.evaluation.jobs import silence
from segrobust.evaluation.jobs.progress import Progress
from segrobust.evaluation.jobs.silence import LoneWatch, Silence, stage


@pytest.fixture
def progress():
    progress = Progress(toy_plan(), range(3))
    progress.taken(1)
    return progress


def looks_at(progress, number):
    """A watch after some looks, which are 5 s apart for its thread."""
    watch = LoneWatch(0, None)
    watch.follow(progress)
    for _ in range(number):
        watch.look()
    return watch


def test_a_silent_process_is_reported_each_time_that_the_time_doubles(capsys, progress):
    looks_at(progress, 500)
    reported = capsys.readouterr().err.splitlines()
    times = [line.partition(" for ")[2].partition(",")[0] for line in reported]
    assert times == ["0:05:00", "0:10:00", "0:20:00", "0:40:00"]
    assert all("in the next image; --stalled_after ends a process that hangs" in line for line in reported)


def test_a_working_process_is_not_reported(capsys, progress):
    watch = LoneWatch(0, None)
    watch.follow(progress)
    for _ in range(500):
        progress.passed(1)
        watch.look()
    progress.finished([1])
    for _ in range(500):
        watch.look()
    assert capsys.readouterr().err == ""


def test_a_thread_looks_and_the_process_lives_on(monkeypatch, capsys, progress):
    monkeypatch.setattr(silence, "SHORTEST_STALL", 0.8)
    reported = ""
    with LoneWatch(0, None) as watch:
        watch.follow(progress)
        while "process 0 has made no pass" not in reported:
            time.sleep(0.01)
            reported += capsys.readouterr().err


def test_samples_and_passes_of_a_stage_are_signs_of_life(capsys):
    watch, oracle = LoneWatch(0, None), NetworkOracle(toy_network(), torch.zeros(1, 3, 4, 4, dtype=torch.float64))
    with stage(watch.follow, "the checks", "everything is missing") as now:
        for _ in range(100):
            oracle.logits(torch.zeros(1, 3, 4, 4, dtype=torch.float64))
            watch.look()
            load_sample(ToyScenes(1), 0)
            watch.look()
        assert capsys.readouterr().err == ""
        now.enter("the report")
        for _ in range(70):
            watch.look()
        assert "no pass for 0:05:00, in the report" in capsys.readouterr().err
        now.rest()
        for _ in range(100):
            watch.look()
        assert capsys.readouterr().err == ""
    for _ in range(100):
        watch.look()
    assert capsys.readouterr().err == ""


def test_silence_is_counted_between_signs_of_the_work(progress):
    heard = Silence(2.0)
    heard.listen()
    assert heard.seconds == 0
    heard.work = progress
    for expected in (0, 2, 4):
        heard.listen()
        assert heard.seconds == expected
    progress.passed(1)
    heard.listen()
    assert (heard.seconds, heard.longest) == (0, 4)
    progress.finished([1])
    for _ in range(3):
        heard.listen()
        assert heard.seconds == 0


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_times_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="stalled_after must be positive"):
        Distributed(stalled_after=value)


def test_a_process_that_may_be_ended_needs_a_run_directory():
    with pytest.raises(ValueError, match="stalled_after, which ends the process, need"):
        evaluate(toy_network(), ToyScenes(2), plan=toy_plan(), distributed=Distributed(stalled_after=5.0))
