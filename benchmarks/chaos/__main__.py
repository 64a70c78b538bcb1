"""Disturbs small evaluations in many ways, and compares each with an undisturbed one.

    PYTHONPATH=tests python -m benchmarks.chaos --rounds 2            # as root, on Linux: some kinds mount disks
    PYTHONPATH=tests python -m benchmarks.chaos --kinds full_disk,broken_disk

Each run must end with the undisturbed records after the same command has been run once more, and no record that was on
the disk may be lost. Results are appended to `results/chaos.jsonl` as they come; runs there are not made again.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.chaos.disturbances import KINDS
from benchmarks.chaos.ground import Ground, own_mounts, undisturbed

RESULTS = Path(__file__).parent.parent / "results" / "chaos.jsonl"


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes:
        kind: of the disturbance.
        seed: of its moments.
        statuses: exit statuses of the processes in the order of their start; None for one that did not end.
        kept: records on the disk after the disturbance.
        equal: whether the records are the undisturbed ones in the end.
        nothing_lost: whether all records that were on the disk are among them.
        said: the error, or the last line that was printed.
    """

    kind: str
    seed: int
    statuses: Sequence[int | None]
    kept: int
    equal: bool
    nothing_lost: bool
    said: str

    @property
    def good(self) -> bool:
        """Whether the run ended as it must."""
        return self.equal and self.nothing_lost and None not in self.statuses


def play(kind: str, seed: int, expected: dict[str, str], answer: Path) -> None:
    """One run, in a process of its own; writes the outcome to a file."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    ground = Ground(folder, folder / "run", random.Random(f"{kind} {seed}"))
    try:
        own_mounts()
        KINDS[kind](ground)
        equal, nothing_lost = (True, True) if kind == "killed_checkpoint" else ground.finish(expected)
        said = ground.said() if ground.output.exists() else ""
    except Exception:  # the table shows a run that ends so as one that failed, with its traceback
        equal = nothing_lost = False
        said = traceback.format_exc()
    said = said.replace(str(folder), "")
    outcome = Outcome(kind, seed, ground.statuses, len(ground.kept), equal, nothing_lost, said)
    answer.write_text(json.dumps(asdict(outcome)))
    shutil.rmtree(folder, ignore_errors=True)


def run(kind: str, seed: int, expected: dict[str, str]) -> Outcome:
    """One run."""
    with tempfile.NamedTemporaryFile() as file:
        process = multiprocessing.get_context("fork").Process(target=play, args=(kind, seed, expected, Path(file.name)))
        process.start()
        process.join()
        return Outcome(**json.loads(Path(file.name).read_text()))


def main() -> None:
    """Runs what is missing, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="runs of each kind")
    parser.add_argument("--kinds", default=",".join(KINDS), help="names, with commas between them")
    options = parser.parse_args()
    done = [Outcome(**json.loads(line)) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    expected = undisturbed()
    for seed in range(options.rounds):
        for kind in options.kinds.split(","):
            if any((each.kind, each.seed) == (kind, seed) for each in done):
                continue
            done.append(run(kind, seed, expected))
            with RESULTS.open("a") as file:
                file.write(json.dumps(asdict(done[-1])) + "\n")
            print(f"{'ok  ' if done[-1].good else 'FAIL'} {kind} {seed}: {done[-1].said}", flush=True)
    print("| kind | runs | as they must | exit statuses |\n|---|---|---|---|")
    for kind in KINDS:
        runs = [each for each in done if each.kind == kind]
        statuses = ", ".join(sorted({" ".join(map(str, each.statuses)) for each in runs}))
        print(f"| {kind} | {len(runs)} | {sum(each.good for each in runs)} | {statuses} |")


if __name__ == "__main__":
    main()
