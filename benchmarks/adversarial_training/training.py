"""Trains the recipes of `configs/experiment/camvid_*.yaml` from the standard network, for equal epochs or equal time.

Equal time is that of PGD-AT: the other recipes get as many epochs as fit into it by the cost of their steps, which
`benchmarks.adversarial_training.cost` measures. A training that was stopped is continued, a finished one is left alone.
What a run prints, at its end the seconds of each callback, is in `output.txt` of its folder.

    SEGROBUST_CAMVID=... python -m benchmarks.adversarial_training.training --recipes '[pgd_at]' --seeds '[1, 2]'
    SEGROBUST_CAMVID=... python -m benchmarks.adversarial_training.training --budget time --parallel 2
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from jsonargparse import auto_cli

from benchmarks.camvid import NETWORKS
from benchmarks.choice import check_chosen

ROOT = Path(__file__).parents[2]
RUNS = Path("runs/adversarial_training")
EPOCHS = 12
REFERENCE = "pgd_at"

STEP_COST = {
    "standard": 1.0,
    "pgd_at": 2.4,
    "half_half": 2.0,
    "half_half_random_start": 1.7,
    "segpgd_at": 2.4,
    "fgsm_rs": 1.7,
    "trades": 3.7,
    "minimal_norm_at": 3.7,
}
"""A training step of each recipe, in clean ones; that of PGD-AT lies between the 2.2 and 2.6 of two measurements."""

Budget = Literal["epochs", "time"]


def epochs(recipe: str, budget: Budget) -> int:
    """How long a recipe is trained."""
    return EPOCHS if budget == "epochs" else round(EPOCHS * STEP_COST[REFERENCE] / STEP_COST[recipe])


def command(recipe: str, num_epochs: int, seed: int, run: Path) -> list[str]:
    """What trains a recipe, or goes on with it; `standard` is the standard network trained on with clean images."""
    options = {
        "config": f"configs/experiment/camvid_{recipe}.yaml",
        "run_dir": str(run.absolute()),
        "seed_everything": str(seed),
        "trainer.max_epochs": str(num_epochs),
        "trainer.profiler": "simple",
        "resume": str((run / "checkpoints" / "last.ckpt").exists()).lower(),
    }
    if recipe == "standard":
        options["model.init_args.initial_weights"] = str(NETWORKS / "camvid_standard.safetensors")
    return [sys.executable, "train.py", *(word for key, value in options.items() for word in (f"--{key}", value))]


def main(
    recipes: Sequence[str] = tuple(STEP_COST),
    budget: Budget = "epochs",
    seeds: Sequence[int] = (0,),
    runs: Path = RUNS,
    parallel: int = 1,
) -> None:
    """Trains each recipe with each seed; a folder of its own for each.

    Args:
        recipes: names.
        budget: `epochs` for as many epochs each, `time` for as much time.
        seeds: of the order of images, augmentation and random starts.
        runs: where the folders are.
        parallel: trainings at a time, which share the processor's cores.

    Raises:
        SystemExit: a training failed; its folder has the log.
    """
    check_chosen(recipes, STEP_COST)
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // parallel))} | os.environ

    def train(recipe: str, seed: int) -> str | None:
        num_epochs = epochs(recipe, budget)
        run = runs / f"{recipe}-{num_epochs}epochs-seed{seed}"
        if (run / "weights.safetensors").exists():
            return None
        run.mkdir(parents=True, exist_ok=True)
        with (run / "output.txt").open("a") as output:
            words = command(recipe, num_epochs, seed, run)
            code = subprocess.run(words, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode
        print(f"{run.name}: {'done' if code == 0 else f'failed, see {output.name}'}", flush=True)
        return None if code == 0 else run.name

    with ThreadPoolExecutor(parallel) as pool:
        jobs = [pool.submit(train, recipe, seed) for seed in seeds for recipe in recipes]
        failed = [name for job in jobs if (name := job.result()) is not None]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    auto_cli(main)
