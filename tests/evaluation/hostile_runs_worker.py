"""Puts every hostile run in front of every command and function, in a process of its own; one line of JSON for each.

Arguments: the folder to write to, and parts of names to be run alone.
"""

import base64
import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from evaluation.hostile_runs import EVERYONE, REGISTRY, HostileRun
from evaluation.toy import CRITERION, ToyScenes, toy_network
from reference_monitor import Growth, Monitor, interrupt_hangs, limit_memory, outcome, say

import segrobust
from segrobust.attacks import PGD, AlmaProx
from segrobust.callbacks.evaluation_share import evaluate_share
from segrobust.cli.console import say as print_lines
from segrobust.cli.ensemble_command import ensemble_command
from segrobust.cli.report_command import compare_command, report_command
from segrobust.evaluation import (
    Distributed,
    RunDirectory,
    evaluate_stored,
    plan_attacks,
    read_faults,
    read_records,
    summarize_run,
    transfer_matrix,
)
from segrobust.evaluation.bench.bench_submission import submit_run
from segrobust.evaluation.bench.bench_verification import verify_bench
from segrobust.evaluation.jobs.progress import Progress
from segrobust.evaluation.jobs.session import Session
from segrobust.evaluation.transfer.matrix_plot import write_transfer

SECRET = b"a secret of the reader, which no page may show"
SCENES = ToyScenes(2)
PLAN = plan_attacks(
    {
        "alma": AlmaProx(num_steps=6, step_size=0.05, criterion=CRITERION),
        "pgd": PGD(num_steps=2, random_start=True, criterion=CRITERION),
    },
    (16 / 255, 64 / 255),
)
GIT = "subprocess.Popen ('git', ['git', 'describe'"
"""Provenance asks for the commit of the folder that the command is called in."""


@dataclass(frozen=True)
class Case:
    """A changed run, a whole one to compare it with, and a folder for what is written."""

    run: Path
    whole: Path
    output: Path
    numbers: str


def read_all(case: Case) -> None:
    """What Python reads, without writing."""
    records = read_records(case.run)
    read_faults(case.run, {record.key for record in records})
    report = summarize_run(case.run)
    RunDirectory(case.run).read_provenance()
    shown = str(report)
    require_printable(shown)
    if numbers_of(case.run) != case.numbers:
        raise OtherNumbersError


class OtherNumbersError(Exception):
    """A run is read, and gives other numbers."""


def numbers_of(run: Path) -> str:
    report = summarize_run(run)
    return json.dumps([report.summary.to_dict(), report.missing], default=str)


def judge(case: Case) -> None:
    result = evaluate_stored(case.run, network(), SCENES, name="judge", output=case.output, progress=False)
    print_lines(str(result))
    matrix = transfer_matrix([case.run], case.output)
    write_transfer(matrix, case.output)
    print_lines(str(matrix))
    if result.status != "ok":
        raise ValueError(f"found: {'; '.join(map(str, result.discrepancies))}; missing {result.missing}")


def evaluate(case: Case) -> None:
    report = segrobust.evaluate(network(), SCENES, plan=PLAN, run_dir=case.run, **SETTINGS)
    report.print()
    if numbers_of(case.run) != case.numbers:
        raise OtherNumbersError


def share(case: Case) -> None:
    """What a training does that finds the directory of this epoch."""
    session = Session(
        network=network(), dataset=SCENES, plan=PLAN, samples=(0, 1), ignore_index=255, batch_size=2, seed=0,
        distributed=Distributed(),
    )  # fmt: skip
    evaluate_share(session, case.run, drawn=(0,), checks=False, progress=Progress(PLAN, (0, 1), ()))


def submit(case: Case) -> None:
    """A run is offered to a bench that is empty."""
    bench = case.output / "bench"
    print_lines("\n".join(map(str, submit_run(case.run, network(), SCENES, bench, name="toy"))))
    found = verify_bench(bench / "toy_linf.json", network(), SCENES)
    assert not found.problems, found


ENTRIES: dict[str, Callable[[Case], None]] = {
    "api": read_all,
    "compare": lambda case: compare_command(
        [str(case.run), str(case.whole), "--output", str(case.output / "c.html"), "--force"]
    ),
    "judge": judge,
    "report": lambda case: report_command([str(case.run)]),
    "ensemble": lambda case: ensemble_command(
        [str(case.run), str(case.whole), f"--json={case.output / 'e.json'}", f"--yaml={case.output / 'e.yaml'}"]
    ),
    "submit": submit,
    "evaluate": evaluate,
    "share": share,
}
SETTINGS = {"panels": 1, "progress": False, "checks": "off", "keep_adversarials": True, "batch_size": 2}


def network() -> torch.nn.Module:
    return toy_network(torch.float32)


def printed(work: Callable[[], None]) -> None:
    """Runs a command; its error becomes an exception, and what it prints must be printable."""
    out, complaints = io.StringIO(), io.StringIO()
    status: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaints):
        try:
            work()
        except SystemExit as exit_:
            status = exit_.code
    require_printable(out.getvalue() + complaints.getvalue())
    if status == 2:  # of errors, after one line
        raise ValueError(complaints.getvalue().removesuffix("\n"))
    assert status == 0, status


def require_printable(text: str) -> None:
    assert "Traceback" not in text, text
    wrong = [line for line in text.split("\n") if not line.isprintable()]
    assert not wrong, f"printed {wrong!r}"
    assert not any(line.startswith("segrobust: everything is fine") for line in text.split("\n")), text


def snapshot(folder: Path) -> list[tuple[str, int, bytes]]:
    return sorted((str(p), p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in folder.rglob("*"))


def leaks(folder: Path) -> list[str]:
    """Files that hold the secret, as it is or in base64."""
    forms = [SECRET, *(base64.b64encode(bytes(12 + shift) + SECRET)[20:-8] for shift in range(3))]
    files = (p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_nlink == 1)
    return [str(p) for p in files if p.stat().st_size < 2**25 and any(form in p.read_bytes() for form in forms)]


def outside_of(folder: Path) -> Path:
    outside = folder / "outside"
    (outside / "folder").mkdir(parents=True)
    for place in (outside / "secret", outside / "folder" / "rank000.lock", outside / "folder" / "asr_linf.png"):
        place.write_bytes(SECRET + b"\nwithout a line end")
    (outside / "secret.webp").write_bytes(b"RIFF" + bytes(4) + b"WEBP" + SECRET)
    return outside


def meet(entry: HostileRun, name: str, root: Path, whole: Path, numbers: str, monitor: Monitor) -> str:
    """What one command says of a fresh copy of the run."""
    case = Case(root / name / "run", whole, root / name / "output", numbers)
    case.output.mkdir(parents=True)
    tempfile.tempdir = str(case.output)
    shutil.copytree(whole, case.run)
    entry.change(case.run, root.parent / "outside")
    monitor.inside, monitor.on = str(root), True
    said = outcome(partial(printed, partial(ENTRIES[name], case)))
    monitor.on = False
    return said


def main(folder: Path, parts: list[str]) -> None:
    folder.mkdir()
    interrupt_hangs()
    whole, outside = folder / "whole", outside_of(folder)
    segrobust.evaluate(network(), SCENES, plan=PLAN, run_dir=whole, **SETTINGS)
    numbers = numbers_of(whole)
    untouched = HostileRun("whole", lambda run, outside: None, "", ())
    monitor = Monitor(folder)
    first = {name: meet(untouched, name, folder / "first", whole, numbers, monitor) for name in EVERYONE}
    say(name="whole", said=first)
    limit_memory(4 * 2**30)
    before = snapshot(outside)
    for number, entry in enumerate(REGISTRY.values()):
        if parts and not any(part in entry.name for part in parts):
            continue
        root = folder / str(number)
        growth, started, monitor.found = Growth(), time.process_time(), []
        said = {name: meet(entry, name, root, whole, numbers, monitor) for name in entry.meets}
        seconds = time.process_time() - started
        found = [*(event for event in monitor.found if not event.startswith(GIT)), *leaks(root)]
        if snapshot(outside) != before:
            found.append("files outside were changed")
            before = snapshot(outside)
        say(name=entry.name, said=said, monitor=found, mebibytes=growth.mebibytes, seconds=seconds)
        shutil.rmtree(root)
    monitor.inside, monitor.found, monitor.on = str(folder), [], True
    subprocess.run(["true"], check=True)
    (folder.parent / "elsewhere").write_text("")
    monitor.on = False
    say(name="what the monitor must see", monitor=monitor.found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
