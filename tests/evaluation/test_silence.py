"""A process without a team whose work shows nothing is reported; debuggers and notebooks are not ended."""

import time

import pytest
from evaluation.toy import ToyScenes, toy_network, toy_plan

from segrobust.evaluation import Distributed, evaluate
from segrobust.evaluation.jobs import silence
from segrobust.evaluation.jobs.progress import Progress
from segrobust.evaluation.jobs.silence import LoneWatch, Silence


@pytest.fixture
def progress():
    progress = Progress(toy_plan(), range(3))
    progress.taken(1)
    return progress


def test_a_silent_process_is_reported_each_time_that_the_time_doubles_and_lives_on(monkeypatch, capsys, progress):
    monkeypatch.setattr(silence, "SHORTEST_STALL", 0.8)
    reported = ""
    with LoneWatch(0, progress, None):
        while reported.count("process 0 has made no pass") < 4:
            time.sleep(0.01)
            reported += capsys.readouterr().err
    assert "in the next image; --stalled_after ends a process that hangs" in reported


def test_a_working_process_is_not_reported(monkeypatch, capsys, progress):
    monkeypatch.setattr(silence, "SHORTEST_STALL", 0.8)
    with LoneWatch(0, progress, None):
        for _ in range(60):
            time.sleep(0.01)
            progress.passed(1)
    assert capsys.readouterr().err == ""


def test_silence_is_counted_between_signs_of_the_work(progress):
    heard = Silence(2.0)
    heard.listen()
    assert heard.seconds == 0
    heard.progress = progress
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
