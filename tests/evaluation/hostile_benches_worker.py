"""Puts every hostile bench in front of every command that reads one, in a process of its own; one line of JSON each.

Arguments: the folder to write to, and parts of names to be run alone.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluation.hostile_benches import BENCHES, EVERY_COMMAND
from evaluation.hostile_runs_worker import PLAN, SETTINGS, leaks, network, outside_of, printed, snapshot
from evaluation.toy import ToyScenes
from reference_monitor import Growth, Monitor, interrupt_hangs, limit_memory, outcome, say

import segrobust
from segrobust.cli.bench_command import page_command
from segrobust.cli.console import say as print_lines
from segrobust.cli.console import without_traceback
from segrobust.cli.report_command import compare_command
from segrobust.evaluation.bench.bench_consistency import read_bench
from segrobust.evaluation.bench.bench_file import bench_files
from segrobust.evaluation.bench.bench_submission import submit_run
from segrobust.evaluation.bench.bench_verification import verify_bench


class Pictures(ToyScenes):
    """Images of 8 bits, which a bench may store."""

    def __getitem__(self, index: int) -> dict[str, object]:
        item = super().__getitem__(index)
        return {**item, "image": (255 * item["image"]).round() / 255}  # type: ignore[operator]


SCENES = Pictures(2)


@dataclass(frozen=True)
class Case:
    """A changed bench, runs of the user, and a folder for what is written."""

    bench: Path
    runs: tuple[Path, Path]
    output: Path


def verify(case: Case) -> None:
    with without_traceback(ValueError, OSError):
        found = [verify_bench(path, network(), SCENES, batch_size=2) for path in bench_files(case.bench)]
        print_lines("\n".join(map(str, found)))
        for problem in (problem for each in found for problem in each.problems):
            raise ValueError(problem)
        for path in bench_files(case.bench):
            read_bench(path)


def submit(case: Case) -> None:
    with without_traceback(ValueError, OSError):
        found = submit_run(case.runs[0], network(), SCENES, case.bench, name="toy", store_images=True)
        print_lines("\n".join(map(str, found)))


COMMANDS: dict[str, Callable[[Case], None]] = {
    "verify": verify,
    "submit": submit,
    "page": lambda case: page_command([f"--folder={case.bench}", f"--output={case.output / 'page.md'}"]),
    "compare": lambda case: compare_command(
        [*map(str, case.runs), f"--bench={case.bench}", f"--output={case.output / 'c.html'}", "--force"]
    ),
}


def meet(change: Callable[[Path, Path], object], name: str, root: Path, folder: Path, monitor: Monitor) -> str:
    """What one command says of a fresh copy of the bench."""
    case = Case(root / name / "bench", (folder / "weak", folder / "strong"), root / name / "output")
    case.output.mkdir(parents=True)
    tempfile.tempdir = str(case.output)
    shutil.copytree(folder / "bench", case.bench)
    change(case.bench, folder / "outside")
    monitor.inside, monitor.on = str(root), True
    said = outcome(partial(printed, partial(COMMANDS[name], case)))
    monitor.on = False
    return said


def main(folder: Path, parts: list[str]) -> None:
    folder.mkdir()
    interrupt_hangs()
    outside = outside_of(folder)
    for name in ("weak", "strong"):
        segrobust.evaluate(network(), SCENES, plan=PLAN, run_dir=folder / name, **SETTINGS)
    submit_run(folder / "weak", network(), SCENES, folder / "bench", name="toy", store_images=True)
    monitor = Monitor(folder)
    whole = {name: meet(lambda bench, out: None, name, folder / "first", folder, monitor) for name in EVERY_COMMAND}
    say(name="whole", said=whole)
    limit_memory(4 * 2**30)
    before = snapshot(outside)
    for number, entry in enumerate(BENCHES.values()):
        if parts and not any(part in entry.name for part in parts):
            continue
        root = folder / str(number)
        growth, started, monitor.found = Growth(), time.process_time(), []
        said = {name: meet(entry.change, name, root, folder, monitor) for name in EVERY_COMMAND}
        seconds = time.process_time() - started
        found = [*monitor.found, *leaks(root)]
        if snapshot(outside) != before:
            found.append("files outside were changed")
            before = snapshot(outside)
        say(name=entry.name, said=said, monitor=found, mebibytes=growth.mebibytes, seconds=seconds)
        shutil.rmtree(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
