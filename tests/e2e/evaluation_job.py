"""One process of an evaluation that several share; started by torchrun, by srun's variables, or by hand."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from evaluation.toy import ToyScenes, toy_network, toy_plan

from segrobust.evaluation import Distributed, evaluate


def main() -> None:
    torch.set_num_threads(1)
    run_dir, num_images, batch_size, delay = sys.argv[1:5]
    if len(sys.argv) > 5:  # each machine its own disk
        run_dir = str(Path(run_dir) / os.environ["NODE"])
    report = evaluate(
        toy_network(),
        ToyScenes(int(num_images), delay=float(delay)),
        plan=toy_plan(),
        run_dir=run_dir,
        batch_size=int(batch_size),
        distributed=replace(Distributed.from_environment(), lost_after=float(os.environ.get("LOST_AFTER", "4"))),
        panels=2 if float(delay) < 1 else 0,
        checks="basic" if float(delay) < 1 else "off",
        progress=False,
    )
    sys.exit(report.interrupted or int(report.missing > 0))


if __name__ == "__main__":
    main()
