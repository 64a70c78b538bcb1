"""Who may write to a run directory, what is left by killed processes, and links that lead out of it."""

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation.test_records import CLEAN, RECORD
from evaluation.test_run_directory import ALMA, MANIFEST
from evaluation.toy import ToyScenes, comparable, toy_network, toy_plan
from safetensors.torch import save_file

from segrobust.evaluation import (
    Record,
    RecordWriter,
    RunDirectory,
    evaluate,
    evaluate_stored,
    read_records,
    summarize_run,
    write_report,
)
from segrobust.evaluation.run import records
from segrobust.evaluation.run.claim import Claim, ManifestChangedError
from segrobust.evaluation.run.failures import Fault, FaultLog
from segrobust.evaluation.run.locks import RunInUseError
from segrobust.evaluation.run.records import RecordWriteError
from segrobust.untrusted.folders import OpenFolder
from segrobust.untrusted.regular_files import replace_file

TESTS = Path(__file__).parent.parent
OTHER = replace(MANIFEST, samples=(0, 1, 2), attacks=(ALMA,), planned=(ALMA,))


def content_of(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and ".locks" not in file.parts}


class TestTwoCommands:
    def test_a_command_that_is_refused_has_written_nothing(self, tmp_path):
        settings = {"run_dir": tmp_path, "panels": 0, "progress": False, "checks": "off"}

        class Intruded(ToyScenes):
            """A second command starts while the first one works, once as the same rank."""

            refused = 0

            def __getitem__(self, index):
                if index == 1 and (tmp_path / "records" / "rank000.jsonl").exists() and not self.refused:
                    before = content_of(tmp_path)
                    with pytest.raises(ValueError, match="another process is writing"):
                        evaluate(toy_network(), ToyScenes(4), plan=toy_plan(), max_images=1, **settings)
                    assert content_of(tmp_path) == before
                    self.refused += 1
                return super().__getitem__(index)

        scenes = Intruded(2)
        report = evaluate(toy_network(), scenes, plan=toy_plan(), **settings)
        assert scenes.refused == 1
        assert report.missing == 0
        assert {record.sample_id for record in report.records} == {0, 1}

    def test_another_rank_of_another_command_is_refused_and_one_of_the_same_is_not(self, tmp_path):
        with Claim(tmp_path, MANIFEST) as claim:
            claim.write_manifest()
            before = content_of(tmp_path)
            with pytest.raises(RunInUseError, match=r"another command is at work .*rank 0"), Claim(tmp_path, OTHER, 1):
                pass
            assert content_of(tmp_path) == before
            with Claim(tmp_path, MANIFEST, 1) as other:
                other.write_manifest()
                claim.require_unchanged()
        with Claim(tmp_path, OTHER, 1):
            pass

    def test_a_rank_that_holds_the_lock_without_a_claim_is_another_command(self, tmp_path):
        with RecordWriter(tmp_path, 3), pytest.raises(RunInUseError, match="rank 3"), Claim(tmp_path, MANIFEST):
            pass

    def test_a_manifest_that_another_command_replaced_stops_the_work_after_the_records_are_written(self, tmp_path):
        with Claim(tmp_path, MANIFEST) as claim, RecordWriter(tmp_path, claim=claim) as writer:
            claim.write_manifest()
            writer.write([RECORD])
            OTHER.write(tmp_path / "manifest.json")
            with pytest.raises(ManifestChangedError, match="another one since this command started"):
                writer.write([CLEAN])
            (tmp_path / "manifest.json").unlink()
            with pytest.raises(ManifestChangedError, match="gone since"):
                claim.require_unchanged()
        assert len(read_records(tmp_path)) == 2

    def test_a_killed_process_leaves_no_lock(self, tmp_path):
        """The lock file stays; the lock does not."""
        code = (
            "import os, sys; from pathlib import Path; from segrobust.evaluation.run.locks import require_lock\n"
            "lock = require_lock(Path(sys.argv[1]), 0); os.kill(os.getpid(), 9)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True)
        assert done.returncode == -9
        assert (tmp_path / ".locks" / "rank000.lock").exists()
        with Claim(tmp_path, MANIFEST):
            pass

    def test_what_kills_left_is_swept_by_the_first_process_and_by_no_other(self, tmp_path):
        (tmp_path / "records").mkdir()
        left = [
            tmp_path / ".shared-77",
            tmp_path / ".manifest.json.00.tmp",
            tmp_path / "records" / ".current.json.1.tmp",
        ]
        own = [tmp_path / "mine.tmp", tmp_path / "notes"]
        for path in own:
            path.touch()
        with Claim(tmp_path, MANIFEST):
            for path in left:
                path.touch()
            with Claim(tmp_path, MANIFEST, 1):
                assert all(path.exists() for path in left)
        with Claim(tmp_path, MANIFEST, 1):
            assert not any(path.exists() for path in left)
        assert all(path.exists() for path in own)

    def test_equal_process_numbers_share_no_temporary_name(self, tmp_path, monkeypatch):
        """Two containers on one disk: the second one writes while the first one has not replaced its file."""
        target, seen = tmp_path / "manifest.json", []
        real = OpenFolder.rename

        def interleaved(self, old, new):
            seen.append(old)
            if len(seen) == 1:
                replace_file(target, b"second")
                assert (tmp_path / old).read_bytes() == b"first"
            return real(self, old, new)

        monkeypatch.setattr(OpenFolder, "rename", interleaved)
        replace_file(target, b"first")
        assert target.read_bytes() == b"first"
        assert len({*seen}) == 2


WITHOUT_FCNTL = """
import sys, warnings
sys.modules["fcntl"] = None
warnings.simplefilter("ignore")
from pathlib import Path
from evaluation.toy import ToyScenes, toy_network, toy_plan
from segrobust.evaluation import evaluate
from segrobust.evaluation.run.locks import RunInUseError, require_lock
run_dir = Path(sys.argv[1])
settings = {"plan": toy_plan(), "run_dir": run_dir, "panels": 0, "progress": False, "checks": "off"}
lock = require_lock(run_dir, 0)
try:
    evaluate(toy_network(), ToyScenes(2), **settings)
except RunInUseError:
    lock.release()
    assert evaluate(toy_network(), ToyScenes(2), **settings).missing == 0
    require_lock(run_dir, 0)
    import os
    os._exit(5)
"""


def test_without_locks_of_the_system_files_stand_for_them_and_are_recognised_when_left(tmp_path):
    command = [sys.executable, "-c", WITHOUT_FCNTL, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    for _ in range(2):  # the second one finds the lock of the first, which ended without releasing it
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 5, done.stderr
    assert len(read_records(tmp_path)) == 2 * 6


class TestLinks:
    """Nothing in a run directory leads out of it."""

    @pytest.fixture
    def run(self, tmp_path):
        directory = RunDirectory(tmp_path / "run")
        attack = replace(ALMA, digest=RECORD.digest)
        directory.claim(replace(MANIFEST, seed=RECORD.seed, attacks=(attack,), planned=(attack,)))
        with RecordWriter(directory.path) as writer:
            writer.write([RECORD])
        return directory.path

    @pytest.mark.parametrize(
        "name",
        [
            "records/rank000.jsonl", "records", "manifest.json", "network.json", "provenance.jsonl", "report.html",
            "faults", "panels/tiles/000000-pgd/image.webp", "pictures/asr_linf.png", "tables", ".locks/rank000.lock",
            "adversarials/aa/min/000000.safetensors", "checks/network.json",
        ],
    )  # fmt: skip
    def test_a_link_is_refused_before_anything_is_read_or_written(self, run, tmp_path, name):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_text("whole\ncut")
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            os.rename(path, tmp_path / "moved")
        path.symlink_to(outside / "secret" if path.suffix else outside)
        for attempt in (
            lambda: evaluate(toy_network(), ToyScenes(2), plan=toy_plan(), run_dir=run, progress=False),
            lambda: summarize_run(run),
            lambda: write_report(RunDirectory(run)),
            lambda: evaluate_stored(run, toy_network(), ToyScenes(2), name="a", output=tmp_path / "judged"),
        ):
            with pytest.raises(ValueError, match=f"{path} is a link"):
                attempt()
        assert [*outside.iterdir()] == [outside / "secret"]
        assert (outside / "secret").read_text() == "whole\ncut"

    def test_a_pipe_is_refused_and_not_waited_for(self, run):
        os.mkfifo(run / "network.json")
        with pytest.raises(ValueError, match=r"network.json is a named pipe"):
            summarize_run(run)

    def test_the_directory_itself_may_be_a_link(self, run, tmp_path):
        (tmp_path / "link").symlink_to(run)
        assert read_records(tmp_path / "link") == read_records(run)
        assert summarize_run(tmp_path / "link").records == summarize_run(run).records

    def test_a_file_of_two_names_is_neither_cut_nor_continued(self, run, tmp_path):
        outside = tmp_path / "secret"
        outside.write_text("whole\ncut")
        shard, faults = run / "records" / "rank001.jsonl", run / "faults" / "rank000.jsonl"
        faults.parent.mkdir()
        for path in (shard, faults):
            os.link(outside, path)
        with pytest.raises(ValueError, match=r"rank001\.jsonl is one of 3 names"):
            RecordWriter(run, 1)
        with pytest.raises(ValueError, match=r"rank000\.jsonl is one of 3 names"):
            FaultLog(run).add(Fault.of(RuntimeError("no kernel"), 1, "toy_1", "load"))
        assert outside.read_text() == "whole\ncut"
        shard.unlink()
        RecordWriter(run, 1).close()  # the refusal kept no lock


class TestDisk:
    """A directory that goes away under a process."""

    def test_a_deleted_directory_costs_no_record(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        writer = RecordWriter(tmp_path / "run")
        writer.write([RECORD])
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(RecordWriteError, match=r"rank000\.jsonl is gone .*2 records are safe in"):
            writer.write([CLEAN])
        self.only_rescued(tmp_path, RECORD, CLEAN)

    def test_a_directory_that_is_deleted_after_the_last_record_costs_none(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        writer = RecordWriter(tmp_path / "run")
        writer.write([RECORD])
        os.rename(tmp_path / "run", tmp_path / "old")
        (tmp_path / "run" / "records").mkdir(parents=True)
        (tmp_path / "run" / "records" / "rank000.jsonl").touch()
        with pytest.raises(RecordWriteError, match="1 records are safe in"):
            writer.close()
        self.only_rescued(tmp_path, RECORD)

    def test_a_disk_that_fails_costs_no_record_and_the_first_error_is_the_one_that_is_seen(self, tmp_path, monkeypatch):
        """Lines are in memory for a while; a disk that turns read-only never gets them."""
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr(records, "_BETWEEN_FLUSHES", 0.0)
        real = os.fsync

        def failing(descriptor):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        def write():
            with RecordWriter(tmp_path / "run") as writer:
                writer.write([RECORD])
                monkeypatch.setattr(os, "fsync", failing)
                writer.write([CLEAN])

        with pytest.raises(RecordWriteError, match=r"Read-only file system\); 2 records are safe in"):
            write()
        monkeypatch.setattr(os, "fsync", real)
        self.only_rescued(tmp_path, RECORD, CLEAN)
        assert read_records(tmp_path / "run") == (RECORD,)

    def test_a_disk_that_fails_at_the_end_costs_no_record(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        writer = RecordWriter(tmp_path / "run")
        writer.write([RECORD])

        def failing(descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            with pytest.raises(RecordWriteError, match=r"Input/output error\); 1 records are safe in"):
                writer.close()
        self.only_rescued(tmp_path, RECORD)
        RecordWriter(tmp_path / "run").close()  # the lock was given back

    def test_a_disk_that_cannot_flush_is_written_as_any_other(self, tmp_path, monkeypatch):
        monkeypatch.setattr(records, "_BETWEEN_FLUSHES", 0.0)

        def failing(descriptor):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr(os, "fsync", failing)
        with RecordWriter(tmp_path) as writer:
            writer.write([RECORD])
        MANIFEST.write(tmp_path / "manifest.json")
        assert read_records(tmp_path) == (RECORD,)

    @staticmethod
    def only_rescued(folder, *records):
        (rescued,) = folder.glob("segrobust-*.jsonl")
        assert rescued.read_text() == "".join(record.to_line() + "\n" for record in records)

    def test_an_evaluation_whose_directory_is_deleted_ends_with_its_records_elsewhere(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        run_dir = tmp_path / "run"

        class Deleting(ToyScenes):
            def __getitem__(self, index):
                shard = run_dir / "records" / "rank000.jsonl"
                if index == 1 and shard.exists() and shard.stat().st_size:
                    shutil.rmtree(run_dir)
                return super().__getitem__(index)

        settings = {"plan": toy_plan(), "panels": 0, "progress": False, "checks": "off"}
        with pytest.raises(RecordWriteError, match="are safe in"):
            evaluate(toy_network(), Deleting(2), run_dir=run_dir, **settings)
        (rescued,) = tmp_path.glob("segrobust-*.jsonl")
        expected = comparable(evaluate(toy_network(), ToyScenes(2), **settings).records)
        found = comparable([Record.from_line(line) for line in rescued.read_text().splitlines()])
        assert len(found) == 7, "six of the first image, and the next one"
        assert found.items() <= expected.items()


def test_false_judgements_of_the_sender_do_not_count(tmp_path):
    """A sender whose images break nothing puts the judgement of an honest run beside them."""
    settings = {"plan": toy_plan(), "panels": 0, "progress": False, "checks": "off", "keep_adversarials": True}
    run, network = tmp_path / "run", toy_network(torch.float32)
    evaluate(network, ToyScenes(2), run_dir=run, **settings)
    judge = {"name": "own", "progress": False}
    with pytest.raises(ValueError, match="must not lie in a run directory"):
        evaluate_stored(run, network, ToyScenes(2), output=run / "judged", **judge)
    honest = evaluate_stored(run, network, ToyScenes(2), output=tmp_path / "theirs", **judge)
    assert honest.status == "ok"
    shutil.copytree(honest.folder, run / "judged" / honest.folder.name)
    for file in run.glob("adversarials/*/*/000000.safetensors"):
        save_file({"adv": ToyScenes(2)[0]["image"]}, file)
    forwards = []
    network.register_forward_pre_hook(lambda *_: forwards.append(1))
    result = evaluate_stored(run, network, ToyScenes(2), output=tmp_path / "mine", **judge)
    assert result.status == "fail"
    assert {discrepancy.sample_id for discrepancy in result.discrepancies} == {0}
    assert len(forwards) >= 8
