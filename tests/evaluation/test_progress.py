"""What is shown of a running evaluation agrees with its records: passes, images, time left."""

import json
import math
import re
from dataclasses import dataclass, replace

import pytest
from evaluation.toy import ToyScenes, toy_network, toy_plan

from segrobust.attacks import PGD
from segrobust.evaluation import StridedWork, evaluate, plan_attacks, run
from segrobust.evaluation.engine.runner import Outputs
from segrobust.evaluation.jobs import progress as progress_module
from segrobust.evaluation.jobs.progress import Counts, Progress, ProgressLines


@dataclass(frozen=True, kw_only=True)
class Unknown(PGD):
    """An attack that cannot say how many passes it makes."""

    @property
    def max_passes(self):
        return math.nan, math.nan


def measure(progress, num_images=4, plan=None, done=(), **outputs):
    with progress:
        return tuple(
            run(
                toy_network(),
                ToyScenes(num_images),
                plan or toy_plan(),
                work=StridedWork(range(num_images), batch_size=2),
                done=done,
                outputs=Outputs(watch=progress, **outputs),
            )
        )


def test_passes_are_those_of_the_records(tmp_path):
    progress = Progress(toy_plan(), range(4), file=tmp_path / "progress.json")
    records = measure(progress)
    written = json.loads((tmp_path / "progress.json").read_text())
    assert written["passes_done"] == sum(record.num_forwards + record.num_backwards for record in records)
    assert (written["state"], written["images"], written["images_done"], written["passes_left"]) == (
        "finished",
        4,
        4,
        0,
    )
    assert written["attack"] is None


def test_the_file_shows_the_pass_inside_an_attack(tmp_path):
    seen = []

    class EveryPass(Progress):
        def passed(self, num_images):
            super().passed(num_images)
            seen.append(self.numbers("running"))

    measure(EveryPass(toy_plan(), range(4)))
    inside = [each for each in seen if each["attack"] == "alma" and each["batch"] == [0, 1]]
    assert [each["batch_passes"] for each in inside] == list(range(1, len(inside) + 1))
    most = 12 + 1 + 12 + 1 + 2  # forwards, backwards, the last judgement, two by-products
    assert len(inside) <= most == inside[0]["batch_passes_at_most"]
    left = [each["passes_left"] for each in seen]
    assert left == sorted(left, reverse=True)
    assert seen[0]["passes_left"] == 4 * (1 + most + 2 * (4 + 1 + 4 + 1)) - 2, "a pass on two images was made"


def test_what_was_done_before_is_not_left_over():
    before = measure(Progress(toy_plan(), range(2)), num_images=2)
    progress = Progress(toy_plan(), range(4), before)
    assert (progress.images_done, progress.share) == (2, 0.5)
    measure(progress, done=before)
    assert (progress.images_done, progress.share) == (4, 1.0)


def test_a_job_that_stops_says_so(tmp_path):
    progress = Progress(toy_plan(), range(4), file=tmp_path / "progress.json")
    measure(progress, stop=lambda: progress.images_done > 0 or progress.signs > 60)
    assert json.loads((tmp_path / "progress.json").read_text())["state"] == "stopped"


def test_other_processes_count():
    progress = Progress(toy_plan(), range(4))
    alone = progress.numbers("running")["passes_left"]
    progress.join(lambda: (Counts(images=1, passes=30, settled=40.0),))
    numbers = progress.numbers("running")
    assert (numbers["images_done"], numbers["passes_done"], numbers["passes_left"]) == (1, 30, alone - 40)
    assert numbers["passes_per_second"] == 0, "they were made before this process looked"
    progress.join(lambda: (Counts(),))
    progress.others = lambda: (Counts(images=1, passes=30, settled=40.0),)
    assert progress.numbers("running")["passes_per_second"] > 0
    progress.take_over(measure(Progress(toy_plan(), range(1)), num_images=1))
    numbers = progress.numbers("finished")
    assert (numbers["images_done"], numbers["passes_done"], numbers["passes_left"]) == (1, 30, alone * 3 / 4)


def test_an_attack_whose_passes_are_not_known_gives_no_time():
    unknown = Unknown(num_steps=2, criterion=toy_plan().criterion)
    plan = plan_attacks({"unknown": unknown}, (16 / 255,))
    progress = Progress(plan, range(4))
    assert math.isnan(sum(unknown.max_passes))
    records = measure(progress, plan=plan)
    assert len(records) == 8
    numbers = progress.numbers("running")
    assert numbers["passes_left"] is None
    assert numbers["seconds_left"] is None
    assert progress.share == 1.0


def test_lines_come_at_the_start_and_then_at_most_once_per_percent(monkeypatch):
    monkeypatch.setattr(progress_module, "_TICK", 0.0)
    monkeypatch.setattr(progress_module, "_FIRST_LINE", 0.0)
    monkeypatch.setattr(progress_module, "_BETWEEN_LINES", 0.0)
    lines = []
    progress = ProgressLines(toy_plan(), range(4), say=lines.append)
    measure(progress)
    assert 20 < len(lines) <= 101
    assert lines[0].startswith("0 of 4 images, 0 %, ")
    assert "left, alma on images 0, 1: pass " in "".join(lines)
    assert re.search(r"pgd at 16/255 on image 3: pass \d+ of at most 10", "".join(lines))
    monkeypatch.setattr(progress_module, "_BETWEEN_LINES", 60.0)
    lines.clear()
    measure(ProgressLines(toy_plan(), range(4), say=lines.append))
    assert len(lines) == 1, "the first, and then one per minute"


def test_without_a_terminal_the_command_prints_lines(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress_module, "_FIRST_LINE", 0.0)
    evaluate(toy_network(), ToyScenes(3), plan=toy_plan(), run_dir=tmp_path, checks="off", panels=0)
    assert " of 3 images, " in capfd.readouterr().err
    assert json.loads((tmp_path / "progress.json").read_text())["images_done"] == 3


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path):
    assert measure(Progress(toy_plan(), range(2), file=tmp_path / "missing" / "progress.json"), num_images=2)


@pytest.mark.parametrize("asr_only", [True, False])
def test_attacks_that_are_no_longer_necessary_are_not_left_over(asr_only):
    plan = replace(toy_plan(), asr_only=asr_only)
    progress = Progress(plan, range(4))
    measure(progress, plan=plan)
    assert (progress.images_done, progress.share) == (4, 1.0)
