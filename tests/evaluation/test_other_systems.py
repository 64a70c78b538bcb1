"""Systems that lack what Linux has, and disks that lack what POSIX promises."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from evaluation.test_run_directory import MANIFEST
from evaluation.toy import ToyScenes, comparable, toy_network, toy_plan
from filelock import SoftFileLock
from odd_disk import odd_disk

from segrobust.data.files.unpacking import unpack
from segrobust.evaluation import evaluate, read_records
from segrobust.evaluation.run import locks
from segrobust.evaluation.run.claim import Claim
from segrobust.evaluation.run.locks import RunInUseError, acquire, lock_path, require_lock
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.file_names import check_file_name, file_key

TESTS = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
SETTINGS = {"plan": toy_plan(), "progress": False, "keep_adversarials": True}

AS_ON_WINDOWS = """
import os, signal, sys, warnings  # WNOHANG and SIGKILL stay, which the standard library needs here
import matplotlib.pyplot, plotly, PIL.Image, rich.console, safetensors.torch, torch, torch.distributed

for name in ("fcntl", "resource", "termios", "pwd", "grp", "syslog", "pty", "tty", "posix"):
    sys.modules[name] = None
for name in '''
    fork forkpty getuid geteuid getgid getpgid getsid setsid killpg uname mkfifo mknod sched_getaffinity statvfs fchmod
    fchown chown lchown sync getloadavg nice pread pwrite sendfile
    O_NOFOLLOW O_NONBLOCK O_NOCTTY O_CLOEXEC O_DIRECTORY O_SYNC
'''.split():
    vars(os).pop(name, None)
for name in '''
    SIGALRM SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGCHLD SIGSTOP SIGCONT SIGPIPE
    alarm setitimer pause pthread_kill pthread_sigmask sigwait
'''.split():
    vars(signal).pop(name, None)
real = os.open


def open_no_folders(path, *args, **options):
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return real(path, *args, **options)


os.open = open_no_folders
warnings.filterwarnings("ignore", message=".*fcntl.*")
import lightning.pytorch  # may look for none of them
import segrobust.callbacks, segrobust.cli, segrobust.data, segrobust.tasks
from pathlib import Path
from evaluation.toy import ToyScenes, toy_network, toy_plan
from segrobust.evaluation import evaluate

run_dir = Path(sys.argv[1])
report = evaluate(toy_network(), ToyScenes(4), plan=toy_plan(), run_dir=run_dir, progress=False, keep_adversarials=True)
assert report.missing == 0, report
"""


@pytest.fixture(scope="module")
def expected():
    return comparable(evaluate(toy_network(), ToyScenes(4), plan=toy_plan(), progress=False, checks="off").records)


def test_an_evaluation_needs_nothing_that_windows_lacks(tmp_path, expected):
    command = [sys.executable, "-c", AS_ON_WINDOWS, str(tmp_path / "run")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert comparable(read_records(tmp_path / "run")) == expected
    assert (tmp_path / "run" / "summary.json").is_file()


def test_every_file_of_a_run_has_a_name_that_all_systems_hold_and_keep_apart(tmp_path):
    run_dir = tmp_path / "run"
    scenes = ToyScenes(4)
    scenes.names = ("A.png", "a.png", "con", "x:y?")
    evaluate(toy_network(), scenes, run_dir=run_dir, **SETTINGS)
    paths = [path.relative_to(run_dir) for path in run_dir.rglob("*")]
    assert len(paths) > 40
    for path in paths:
        check_file_name(path.name.lstrip("."), str(path))
        assert re.search("con|x:y", str(path)) is None
    assert len({tuple(map(file_key, path.parts)) for path in paths}) == len(paths)


@pytest.fixture
def disk(tmp_path, request):
    """A disk of this computer with the given faults."""
    try:
        with odd_disk(tmp_path / "disk", *request.param) as folder:
            yield folder
    except OSError as error:
        pytest.skip(f"needs Linux, root and FUSE to mount a disk: {error}")


WITHOUT_LOCKS = pytest.mark.parametrize("disk", [("--no-locks",)], indirect=True)


@pytest.mark.parametrize("disk", [("--ignore-case",), ("--no-locks", "--ignore-case")], indirect=True)
def test_an_evaluation_on_such_a_disk_gives_the_records_of_another(disk, expected):
    assert (disk / "x").write_text("a") == 1
    scenes = ToyScenes(4)
    report = evaluate(toy_network(), scenes, run_dir=disk / "run", **SETTINGS)
    assert report.missing == 0
    assert comparable(read_records(disk / "run")) == expected


@pytest.mark.parametrize("disk", [("--ignore-case",)], indirect=True)
def test_an_archive_whose_names_are_one_on_the_disk_is_refused(disk, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("x/A.png", "x/a.png"):
            archive.writestr(name, name)
    with pytest.raises(DataFault, match=r"a\.png and A\.png are one file on this disk"):
        unpack(tmp_path / "a.zip", disk)
    unpack(tmp_path / "a.zip", tmp_path / "other")
    assert (tmp_path / "other" / "x" / "A.png").read_text() == "x/A.png"


@WITHOUT_LOCKS
def test_on_a_disk_without_locks_a_second_process_is_refused_and_a_killed_one_is_recognised(disk):
    code = (
        "import os, sys; from pathlib import Path; from segrobust.evaluation.run.locks import require_lock\n"
        "lock = require_lock(Path(sys.argv[1]), 0)\nprint('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(disk)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RunInUseError, match=r"If none is left, delete .*\.locks"), Claim(disk, MANIFEST):
            pass
        other.kill()
    assert lock_path(disk, 0).with_suffix(".softlock").exists()
    with Claim(disk, MANIFEST):
        assert acquire(lock_path(disk, 0)) is None
    assert not [*(disk / ".locks").glob("*.softlock*")]


class TestLeftLocks:
    """Files that stand for locks, on any disk; no process has the number 2**22 + 1, the first one above the largest."""

    @pytest.fixture(autouse=True)
    def soft(self, monkeypatch):
        def refused(path, timeout):
            raise OSError(locks._UNSUPPORTED[0], "no locks")

        monkeypatch.setattr(locks, "FileLock", refused)
        monkeypatch.setattr(
            SoftFileLock, "_try_break_stale_lock", lambda self: None
        )  # as on a disk that cannot exchange

    @staticmethod
    def leave(folder, number=2**22 + 1, machine=None, name="rank000"):
        path = (folder / ".locks" / name).with_suffix(".softlock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with SoftFileLock(path):
            lines = path.read_text().splitlines()
        path.write_text(f"{number}\n{machine or lines[1]}\n")
        return path

    def test_that_of_a_process_that_does_not_run_is_removed(self, tmp_path):
        self.leave(tmp_path)
        require_lock(tmp_path, 0).release()
        assert not [*(tmp_path / ".locks").iterdir()]

    def test_a_process_that_was_killed_while_it_entered_keeps_nobody_waiting(self, tmp_path):
        for name in ("gate", "rank000", "rank003"):
            self.leave(tmp_path, name=name)
        with Claim(tmp_path, MANIFEST):
            assert sorted(path.name for path in (tmp_path / ".locks").iterdir()) == ["rank000.json", "rank000.softlock"]

    @pytest.mark.parametrize(
        "marker", [{"number": os.getppid()}, {"machine": "another"}, {"number": "x"}, {"number": 0}]
    )
    def test_any_other_is_respected(self, tmp_path, marker):
        path = self.leave(tmp_path, **marker)
        before = path.read_text()
        with pytest.raises(RunInUseError, match="delete"):
            require_lock(tmp_path, 0)
        assert [*path.parent.iterdir()] == [path]
        assert path.read_text() == before

    def test_one_that_another_process_takes_at_that_moment_is_put_back(self, tmp_path, monkeypatch):
        path = self.leave(tmp_path)
        real = Path.rename

        def raced(self, target):
            if self == path:
                path.write_text("1\nthe faster one\n")
            return real(self, target)

        monkeypatch.setattr(Path, "rename", raced)
        with pytest.raises(RunInUseError):
            require_lock(tmp_path, 0)
        assert path.read_text() == "1\nthe faster one\n"
        assert [*path.parent.iterdir()] == [path]
