"""What goes wrong with single images, disks and memory: told, kept, and never the end of the rest."""

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation.toy import CRITERION, ToyScenes, comparable, toy_network, toy_plan
from torch import nn

from segrobust.attacks import PGD
from segrobust.evaluation import (
    Fault,
    Plan,
    RecordWriter,
    StridedWork,
    evaluate,
    plan_attacks,
    read_faults,
    read_records,
    run,
    summarize_run,
)
from segrobust.evaluation.jobs.signals import interruptible
from segrobust.evaluation.run.failures import FaultLog

TESTS = Path(__file__).parent.parent
BRITTLE = 1  # the image that some networks here cannot bear


class Marked(ToyScenes):
    """Toy scenes in which one image is dark in a corner, so that a network can tell it from the others."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        item["image"][:, -1, -1] = 0.0 if index == BRITTLE else 0.5
        return item


class Brittle(nn.Module):
    """Raises where it is asked for a gradient on the marked image."""

    def __init__(self, is_mended=False):
        super().__init__()
        self.inner = toy_network()
        self.is_mended = is_mended

    def forward(self, images):
        if not self.is_mended and images.requires_grad and bool((images[:, :, -1, -1].detach() < 0.2).all(1).any()):
            raise RuntimeError("no kernel for this image\nsecond line")
        return self.inner(images)


def settings(tmp_path, **more):
    return {"plan": toy_plan(), "run_dir": tmp_path, "panels": 0, "progress": False, "checks": "off", **more}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_attack_that_raises_costs_its_image_alone(tmp_path, batch_size):
    report = evaluate(Brittle(), Marked(5), **settings(tmp_path, batch_size=batch_size))
    healthy = evaluate(toy_network(), Marked(5), plan=toy_plan(), progress=False, checks="off")
    expected = {k: v for k, v in comparable(healthy.records).items() if k[0] != BRITTLE or k[1] == "clean"}
    assert comparable(report.records) == expected
    assert {(fault.sample_id, fault.sample_name) for fault in report.faults} == {(BRITTLE, "toy_1")}
    assert {(fault.attack, fault.eps) for fault in report.faults} == {
        ("alma", "min"), ("pgd", 16 / 255), ("pgd", 64 / 255),
    }  # fmt: skip
    assert report.missing == 0
    assert "RuntimeError: no kernel for this image" in report.faults[0].error
    assert "in forward" in report.faults[0].traceback
    assert "image 1 (toy_1), alma at min: RuntimeError" in str(report)
    assert json.loads((tmp_path / "summary.json").read_text())["faults"][0].startswith("image 1 (toy_1)")


def test_what_was_mended_is_no_fault_any_more(tmp_path):
    evaluate(Brittle(), Marked(4), **settings(tmp_path))
    report = evaluate(Brittle(is_mended=True), Marked(4), **settings(tmp_path))
    assert report.faults == ()
    assert report.missing == 0
    assert len(report.records) == len(evaluate(toy_network(), Marked(4), plan=toy_plan(), progress=False).records)
    assert list((tmp_path / "faults").iterdir()), "the traceback stays"


def test_without_files_an_attack_that_raises_ends_the_call():
    with pytest.raises(RuntimeError, match="no kernel"):
        evaluate(Brittle(), Marked(4), plan=toy_plan(), progress=False, checks="off")


class Torn(ToyScenes):
    """A data set with one file that cannot be decoded."""

    def __init__(self, num, bad=1):
        super().__init__(num)
        self.bad = bad

    def __getitem__(self, index):
        if index == self.bad:
            raise OSError("image file is truncated (3 bytes not processed)")
        return super().__getitem__(index)


@pytest.mark.parametrize("bad", [0, 1])
def test_an_unreadable_image_is_named_and_ends_the_job_with_nothing_lost(tmp_path, bad):
    with pytest.raises(ValueError, match=rf"image {bad} \(toy_{bad}\) cannot be read: image file is .*skip_unreadable"):
        evaluate(toy_network(), Torn(4, bad), **settings(tmp_path))
    assert {record.sample_id for record in read_records(tmp_path)} == {*range(bad)}


@pytest.mark.parametrize("bad", [0, 1])
def test_an_unreadable_image_is_skipped_by_option_and_listed(tmp_path, bad):
    report = evaluate(toy_network(), Torn(4, bad), **settings(tmp_path, skip_unreadable=True, checks="basic", panels=4))
    assert {record.sample_id for record in report.records} == {0, 1, 2, 3} - {bad}
    assert {(fault.sample_id, fault.stage) for fault in report.faults} == {(bad, "load")}
    assert report.missing == 0
    assert report.summary.num_images == 2  # image 2 is void
    assert (tmp_path / "summary.json").exists()
    assert len(list((tmp_path / "panels").glob("*-alma.png"))) == 3


def test_where_no_image_can_be_read_that_is_said(tmp_path):
    class AllTorn(ToyScenes):
        def __getitem__(self, index):
            raise OSError("image file is truncated")

    with pytest.raises(ValueError, match="no image can be read; the error of the last one: image file is truncated"):
        evaluate(toy_network(), AllTorn(3), **settings(tmp_path))


class SmallMemory(nn.Module):
    """A GPU that holds two images."""

    def __init__(self, room=2):
        super().__init__()
        self.inner, self.room, self.sizes = toy_network(), room, []

    def forward(self, images):
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.inner(images)


@pytest.mark.parametrize("faults", [True, False])
def test_a_batch_that_does_not_fit_is_halved_and_that_is_told_once(tmp_path, faults):
    network, dataset = SmallMemory(), ToyScenes(11)
    more = settings(tmp_path) if faults else {"plan": toy_plan(), "progress": False, "checks": "off"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = evaluate(network, dataset, batch_size=8, **more)
    assert [str(w.message) for w in caught if "memory" in str(w.message)] == [
        "batches of 7 images do not fit in the memory of cpu; batches are halved until they fit"
    ]  # image 3 has another size, so the first batch holds seven
    assert network.sizes.count(7) == 1
    assert max(network.sizes[network.sizes.index(2) :]) == 2
    assert report.faults == ()
    expected = evaluate(toy_network(), dataset, plan=toy_plan(), progress=False, checks="off")
    assert comparable(report.records) == comparable(expected.records)


def test_one_image_that_does_not_fit_is_a_fault(tmp_path):
    class TooLarge(SmallMemory):
        def forward(self, images):
            if images.requires_grad and images.shape[-2:] == (6, 9):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.inner(images)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = evaluate(TooLarge(), ToyScenes(5), **settings(tmp_path, batch_size=2))
    assert {fault.sample_id for fault in report.faults} == {3}
    assert "OutOfMemoryError" in report.faults[0].error


def test_a_torn_line_among_the_faults_is_left_out_and_cut_by_the_next(tmp_path):
    fault = Fault.of(RuntimeError("no kernel"), 1, "toy_1", "load")
    log = FaultLog(tmp_path)
    log.add(fault)
    with (tmp_path / "faults" / "rank000.jsonl").open("a") as file:
        file.write('{"torn')
    assert read_faults(tmp_path, set()) == (fault,)
    log.add(replace(fault, sample_id=2))
    assert read_faults(tmp_path, set()) == (fault, replace(fault, sample_id=2))
    with (tmp_path / "faults" / "rank000.jsonl").open("a") as file:
        file.write('{"sample_id": 7}\n')
    with pytest.raises(ValueError, match=r"rank000\.jsonl, line 3: fields are missing"):
        read_faults(tmp_path, set())


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from evaluation.toy import ToyScenes, toy_network, toy_plan
from segrobust.evaluation import evaluate
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does; the write then fails with an OSError
run_dir, limit = Path(sys.argv[1]), int(sys.argv[2])
settings = {"plan": toy_plan(), "run_dir": run_dir, "panels": 0, "progress": False, "checks": "off"}
evaluate(toy_network(), ToyScenes(6), max_images=1, **settings)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
else:
    import tempfile
    tempfile.tempdir = "/nonexistent"
    size = (run_dir / "records" / "rank000.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
evaluate(toy_network(), ToyScenes(6), **settings)
"""


@pytest.mark.parametrize("rescue", ["file", "stderr"])
def test_records_of_a_full_disk_are_rescued(tmp_path, rescue):
    """A real refusal of the operating system: files may not grow beyond a limit."""
    run_dir, temporary = tmp_path / "run", tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(run_dir), "6000" if rescue == "file" else "0"],
        env={**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": str(temporary)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "cannot be written (File too large)" in done.stderr
    shard = run_dir / "records" / "rank000.jsonl"
    assert shard.read_bytes().endswith(b"\n"), "no torn line is left"
    kept = read_records(run_dir)
    if rescue == "file":
        (rescued,) = temporary.glob("segrobust-*.jsonl")
        assert str(rescued) in done.stderr
        text = rescued.read_text()
    else:
        text = "".join(line + "\n" for line in done.stderr.splitlines() if line.startswith('{"sample_id"'))
    assert text.count("\n") >= 1
    with shard.open("a") as file:
        file.write(text)
    again = read_records(run_dir)
    assert len(again) == len(kept) + text.count("\n")
    assert summarize_run(run_dir).missing > 0
    report = evaluate(toy_network(), ToyScenes(6), **settings(run_dir))
    expected = evaluate(toy_network(), ToyScenes(6), plan=toy_plan(), progress=False, checks="off")
    assert comparable(report.records) == comparable(expected.records)


def test_two_jobs_never_write_to_one_file(tmp_path):
    with RecordWriter(tmp_path), pytest.raises(ValueError, match="another process is writing"):
        evaluate(toy_network(), ToyScenes(2), **settings(tmp_path))
    assert evaluate(toy_network(), ToyScenes(2), **settings(tmp_path)).missing == 0


class Stopping(ToyScenes):
    """Sends a signal to this process when the work has begun and the third image is read."""

    def __init__(self, num, number, folder):
        super().__init__(num)
        self.number, self.folder = number, folder

    def __getitem__(self, index):
        if index == 2 and self.number is not None and list(self.folder.rglob("rank*.jsonl")):
            os.kill(os.getpid(), self.number)
        return super().__getitem__(index)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_work_between_batches(tmp_path, number, capfd):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    report = evaluate(toy_network(), Stopping(6, number, tmp_path), **settings(tmp_path))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert report.interrupted == number
    assert {record.sample_id for record in report.records} == {0, 1}
    assert report.missing == len(report.records) // 2 * 4
    assert f"stopped by {number.name}" in str(report)
    assert "stopping after this batch" in capfd.readouterr().err
    assert not (tmp_path / "summary.json").exists()
    assert evaluate(toy_network(), Stopping(6, None, tmp_path), **settings(tmp_path)).missing == 0


class StoppingAtReading(ToyScenes):
    """Sends a signal to this process when a sample is read for the n-th time."""

    def __init__(self, num, reading):
        super().__init__(num)
        self.reading = reading

    def __getitem__(self, index):
        if len(self.loaded) == self.reading:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


@pytest.mark.parametrize(("num_recorded", "reading"), [(0, 0), (0, 3), (3, 0), (3, 4)])
def test_a_signal_before_the_first_batch_ends_as_later_ones_do(tmp_path, num_recorded, reading, capfd):
    """While samples are compared with themselves and with their records, or the network with that of the records."""
    before = signal.getsignal(signal.SIGTERM)
    if num_recorded:
        evaluate(toy_network(), ToyScenes(num_recorded), **settings(tmp_path))
    records = comparable(read_records(tmp_path))
    report = evaluate(toy_network(), StoppingAtReading(6, reading), **settings(tmp_path))
    assert signal.getsignal(signal.SIGTERM) == before
    assert report.interrupted == signal.SIGTERM
    assert "stopped by SIGTERM" in str(report)
    assert "stopping after this batch" in capfd.readouterr().err
    assert comparable(read_records(tmp_path)) == records
    assert report.missing > 0
    assert evaluate(toy_network(), ToyScenes(6), **settings(tmp_path)).missing == 0


def test_a_signal_while_changed_samples_are_found_leaves_the_rest_to_the_next_command(tmp_path):
    class Inverted(StoppingAtReading):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return {**item, "image": 1 - item["image"]}

    evaluate(toy_network(), ToyScenes(4), **settings(tmp_path))
    report = evaluate(toy_network(), Inverted(4, 4), redo_changed=True, **settings(tmp_path))
    assert report.interrupted == signal.SIGTERM
    evaluate(toy_network(), Inverted(4, -1), redo_changed=True, **settings(tmp_path))
    expected = evaluate(toy_network(), Inverted(4, -1), **{**settings(tmp_path), "run_dir": None})
    assert comparable(read_records(tmp_path)) == comparable(expected.records)


def test_the_second_signal_does_what_it_always_did():
    def send_twice():
        with interruptible() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop()
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            send_twice()
    finally:
        signal.signal(signal.SIGINT, before)


def test_for_success_rates_alone_broken_images_are_left_out():
    """Image by image the same verdict with fewer attacks, and no number that the choice of images would bias."""
    radii = (4 / 255, 192 / 255)
    attacks = {name: PGD(num_steps=steps, criterion=CRITERION) for name, steps in (("short", 4), ("long", 12))}
    whole = evaluate(toy_network(), ToyScenes(8), attacks=attacks, eps=radii, progress=False, checks="off")
    quick = evaluate(
        toy_network(), ToyScenes(8), attacks=attacks, eps=radii, progress=False, checks="off", asr_only=True
    )
    lines, all_lines = comparable(quick.records), comparable(whole.records)
    assert lines.items() <= all_lines.items()
    left_out = set(all_lines) - set(lines)
    broken = {(r.sample_id, r.eps) for r in whole.records if r.attack == "short" and r.success}
    assert {(key[0], key[2]) for key in left_out} >= broken != set()
    assert quick.summary.any_attack == whole.summary.any_attack
    assert (quick.summary.fixed_budget, quick.summary.worst_case) == ((), ())
    assert whole.summary.fixed_budget


def test_a_run_for_success_rates_is_complete_and_can_be_completed(tmp_path):
    quick = evaluate(toy_network(), ToyScenes(8), **settings(tmp_path, asr_only=True))
    assert quick.missing == 0
    full = evaluate(toy_network(), ToyScenes(8), **settings(tmp_path))
    assert len(full.records) > len(quick.records)
    expected = evaluate(toy_network(), ToyScenes(8), plan=toy_plan(), progress=False, checks="off")
    assert comparable(full.records) == comparable(expected.records)


def test_nothing_is_left_out_where_nothing_is_broken():
    plan = replace(plan_attacks({"pgd": PGD(num_steps=2, criterion=CRITERION)}, (0.001, 0.002)), asr_only=True)
    assert isinstance(plan, Plan)
    records = list(run(toy_network(), ToyScenes(2), plan, work=StridedWork((0, 1))))
    assert len(records) == 2 * 3


def test_a_folder_of_faults_that_may_not_be_read_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    (tmp_path / "faults").mkdir()

    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", denied)  # the superuser, who runs tests in containers, may read all folders
    with pytest.raises(PermissionError, match="faults"):
        read_faults(tmp_path, set())
