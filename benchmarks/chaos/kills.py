"""A job that is killed at random moments, again and again, must end with the records of one that was not.

    python -m benchmarks.chaos.kills --rounds 20

Each round runs 24 generated scenes under two attacks in 1 to 3 processes of the engine, kills all of them at
a random moment, also while the report is made, and goes on with another number of processes until the run is complete.
Then: the same records as an undisturbed run, none lost, none twice, at most one batch made again per kill and process.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.distributed import FileStore  # type: ignore[attr-defined]  # public, but not named in its __all__

from segrobust.attacks import PGD, Attack, LagrangianFMN
from segrobust.data import SyntheticScenes
from segrobust.evaluation import Distributed, Plan, Record, evaluate, plan_attacks, read_records, summarize_run

NUM_IMAGES, BATCH_SIZE, SIZE = 24, 2, (48, 64)


@dataclass(frozen=True)
class Round:
    """How one round went."""

    kills: int
    during_report: int
    processes: tuple[int, ...]
    repeated_records: int
    allowed_repeats: int
    equal: bool
    complete: bool


def network() -> nn.Module:
    """A small network with fixed weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 9, 3, padding=1)).eval()


def plan() -> Plan:
    """A minimal-norm and a fixed-budget attack."""
    attacks: dict[str, Attack] = {
        "lagrangian_fmn": LagrangianFMN(num_passes=25),
        "pgd": PGD(num_steps=20, random_start=True),
    }
    return plan_attacks(attacks, (2 / 255, 8 / 255))


def share(run_dir: str, rank: int, world_size: int, store_file: str) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    store = FileStore(store_file, world_size) if world_size > 1 else None
    evaluate(
        network(),
        SyntheticScenes(NUM_IMAGES, split="val", size=SIZE),
        plan=plan(),
        run_dir=run_dir,
        batch_size=BATCH_SIZE,
        distributed=Distributed(rank=rank, world_size=world_size, store=store),
        panels=2,
        progress=False,
    )


def without_time(record: Record) -> str:
    """A record as text, seconds left out."""
    return json.dumps({**asdict(record), "seconds": 0.0})


def play(expected: dict[object, Record], seed: int) -> Round:
    """One round: two kills at random moments of the work, in every other round one of the report, then to the end."""
    chance = random.Random(seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segrobust.evaluation", "segrobust.data", "benchmarks.chaos.kills"])
    run_dir = Path(tempfile.mkdtemp())
    targets = sorted(chance.randrange(len(expected)) for _ in range(2))
    moments: list[int | None] = [*targets, *([len(expected)] if seed % 2 else []), None]
    kills = during_report = allowed = 0
    worlds: list[int] = []
    records_per_batch = BATCH_SIZE * max(len(call.recorded) for call in plan().attack_calls)
    try:
        for moment in moments:
            worlds.append(chance.choice([size for size in (1, 2, 3) if not worlds or size != worlds[-1]]))
            store_file = str(run_dir / f"store-{len(worlds)}")
            arguments = [(str(run_dir), rank, worlds[-1], store_file) for rank in range(worlds[-1])]
            workers = [context.Process(target=share, args=args, daemon=True) for args in arguments]
            for worker in workers:
                worker.start()
            if moment is None:
                for worker in workers:
                    worker.join()
                break
            while count_lines(run_dir) < moment and any(worker.is_alive() for worker in workers):
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.3))
            during_report += moment == len(expected) and not (run_dir / "report.html").exists()
            kills += any(worker.is_alive() for worker in workers)
            allowed += worlds[-1] * records_per_batch
            for worker in workers:
                if worker.is_alive() and worker.pid is not None:
                    os.kill(worker.pid, signal.SIGKILL)
                worker.join()
        found = {record.key: record for record in read_records(run_dir)}
        return Round(
            kills=kills,
            during_report=during_report,
            processes=tuple(worlds),
            repeated_records=count_lines(run_dir) - len(found),
            allowed_repeats=allowed,
            equal={k: without_time(r) for k, r in found.items()} == {k: without_time(r) for k, r in expected.items()},
            complete=summarize_run(run_dir).missing == 0 and (run_dir / "summary.json").is_file(),
        )
    finally:
        shutil.rmtree(run_dir)


def count_lines(run_dir: Path) -> int:
    """Lines of all shards."""
    return sum(path.read_bytes().count(b"\n") for path in run_dir.glob("records/*.jsonl"))


def main() -> None:
    """Prints one line per round, and whether all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = SyntheticScenes(NUM_IMAGES, split="val", size=SIZE)
    whole = evaluate(network(), data, plan=plan(), batch_size=BATCH_SIZE, progress=False)
    expected: dict[object, Record] = {record.key: record for record in whole.records}
    rounds = []
    for seed in range(options.rounds):
        rounds.append(play(expected, seed))
        print(f"round {seed}: {rounds[-1]}", flush=True)
    good = [r for r in rounds if r.equal and r.complete and r.repeated_records <= r.allowed_repeats]
    print(f"{len(good)} of {len(rounds)} rounds ended as the undisturbed run, bit for bit but for the seconds")
    print(f"{sum(r.kills for r in rounds)} kills, {sum(r.during_report for r in rounds)} while the report was made")


if __name__ == "__main__":
    main()
