"""What a second process gives, and what records and metrics cost.

    python -m benchmarks.scaling            # one process, two, one again: about 21 minutes on two free cores
    python -m benchmarks.scaling --cost     # share of records and metrics in the time: about a minute

The demo network and generated scenes of 192x256 under the preset `quick`: Lagrangian FMN with 50 passes and PGD with 10
steps at four radii; each process has one thread. The rate is that of the images between the first and the last record,
so that imports and the report do not count.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed import FileStore  # type: ignore[attr-defined]  # public, but not named in its __all__

from benchmarks.camvid import demo_network
from segrobust.data import SyntheticScenes
from segrobust.evaluation import Distributed, RecordWriter, evaluate, preset, read_records
from segrobust.evaluation.engine.measure import Measurer


def share(run_dir: str, rank: int, world_size: int, num_images: int) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    store = FileStore(f"{run_dir}.store", world_size) if world_size > 1 else None
    evaluate(
        demo_network(),
        SyntheticScenes(num_images, split="val"),
        plan=preset("quick"),
        run_dir=run_dir,
        distributed=Distributed(rank=rank, world_size=world_size, store=store),
        panels=0,
        checks="off",
        progress=False,
    )


def rate(num_processes: int, num_images: int) -> dict[str, float]:
    """Images per second, from the moments at which records grew."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        context = multiprocessing.get_context("spawn")
        arguments = [(str(run_dir), rank, num_processes, num_images) for rank in range(num_processes)]
        workers = [context.Process(target=share, args=args) for args in arguments]
        for worker in workers:
            worker.start()
        started = ended = 0.0
        lines = at_start = 0
        while any(worker.is_alive() for worker in workers):
            found = sum(path.read_bytes().count(b"\n") for path in run_dir.glob("records/*.jsonl"))
            if found > lines:
                ended = time.monotonic()
                if not started:
                    started, at_start = ended, found
                lines = found
            time.sleep(0.2)
        records = read_records(run_dir)
    per_image = len(records) / num_images
    seconds = ended - started
    images = (lines - at_start) / per_image
    return {"processes": num_processes, "images": num_images, "seconds": seconds, "images_per_second": images / seconds}


def cost(num_images: int) -> dict[str, float]:
    """Seconds in records and metrics, and in all, of one process."""
    torch.set_num_threads(1)
    spent = dict.fromkeys(("to_records", "write"), 0.0)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **settings: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **settings)
            spent[name] += time.perf_counter() - started
            return result

        return call

    Measurer._to_records = timed("to_records", Measurer._to_records)  # type: ignore[method-assign]
    RecordWriter.write = timed("write", RecordWriter.write)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        share(folder, 0, 1, num_images)
        total = time.perf_counter() - started
    return {**spent, "all": total, "share": sum(spent.values()) / total}


def main() -> None:
    """Prints one line of JSON per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--images", type=int, default=84, help="of one process; two have four times as many")
    options = parser.parse_args()
    if options.cost:
        print(json.dumps(cost(max(1, options.images // 4))))
        return
    runs = [rate(1, options.images), rate(2, 4 * options.images), rate(1, options.images)]
    for run in runs:
        print(json.dumps(run), flush=True)
    print(
        f"ratio {2 * runs[1]['images_per_second'] / (runs[0]['images_per_second'] + runs[2]['images_per_second']):.3f}"
    )


if __name__ == "__main__":
    main()
