"""What it costs that a run directory knows its data and its network.

    python -m benchmarks.identity_cost              # the digest of a sample beside an attack of 50 passes on it
    python -m benchmarks.identity_cost --evaluation # all of it in the evaluation of the demo network
    python -m benchmarks.identity_cost --training   # what `RobustnessEvaluation` does before its first attack

The evaluation has the attacks, the images and the network of `segrobust evaluate` without arguments. It runs twice on
one directory: the first call writes digests and the probe of the network; the second compares all of them and measures
nothing.
The training is one epoch of the demo network with the default attacks on 8 images. Its time is that of the sanity check
and of one evaluation: attacks of two steps, keys of the loaders, both ways of two images to the network, and copies of
the task that take its step; for our task, and for one that counts in NumPy, where classes are tried.

Seconds are those of the processor, so that other programs do not count.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from benchmarks.camvid import demo_network
from benchmarks.pairs import compare
from benchmarks.subjects import machine, make_subject
from segrobust.attacks import Attack
from segrobust.callbacks import RobustnessEvaluation
from segrobust.callbacks.validated import Validated
from segrobust.data import SyntheticScenes
from segrobust.evaluation import evaluate
from segrobust.evaluation.dataset import LoadedSample
from segrobust.evaluation.jobs import evaluation_steps
from segrobust.evaluation.jobs.session import Session
from segrobust.shipped import shipped_path
from segrobust.tasks import SegmentationTask

PASSES = 50


def digest_share(pairs: int, size: tuple[int, int]) -> float:
    """Seconds of a sample's digest over those of an attack of 50 passes: 25 forwards and 25 backwards."""
    subject = make_subject("mobilenet", size=size, num_classes=11)
    image, mask = subject.images[0], subject.labels[0]
    found = compare(lambda: LoadedSample(0, image, mask).digest, subject.bare_pass, pairs=pairs)
    print(f"digest / bare pass of FPN, MobileNetV3-small, {size[0]}x{size[1]}: {found}")
    return found.ratio / (PASSES / 2)


class Stopwatch:
    """Seconds spent inside functions that it replaces; a call inside another counts once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._is_inside = False

    @contextmanager
    def watching(self, *places: tuple[Any, str]) -> Iterator[None]:
        """Counts calls of `getattr(owner, name)` for each pair."""
        found = [(owner, name, getattr(owner, name)) for owner, name in places]
        for owner, name, function in found:
            setattr(owner, name, self._timed(function))
        try:
            yield
        finally:
            for owner, name, function in found:
                setattr(owner, name, function)

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **settings: Any) -> Any:
            if self._is_inside:
                return function(*args, **settings)
            self._is_inside, started = True, time.process_time()
            try:
                return function(*args, **settings)
            finally:
                self.seconds += time.process_time() - started
                self._is_inside = False

        return call


def demo_attacks() -> tuple[dict[str, Attack], int]:
    """Attacks and number of images of `segrobust evaluate` without arguments."""
    demo = yaml.safe_load(shipped_path("demo_evaluation.yaml").read_text())
    parser = ArgumentParser()
    parser.add_argument("--attacks", type=dict[str, Attack])
    parsed = parser.parse_object({"attacks": demo["attacks"]})
    return parser.instantiate(parsed).attacks, demo["max_images"]


def evaluation_cost() -> Iterator[dict[str, float]]:
    """Seconds of all work for the identity of data and network, and of the evaluation, for both calls."""
    attacks, max_images = demo_attacks()
    dataset = SyntheticScenes(32, split="val")
    digest = LoadedSample.__dict__["digest"]
    with tempfile.TemporaryDirectory() as folder:
        for number in (1, 2):
            watch, started = Stopwatch(), time.process_time()
            places = (
                *((evaluation_steps, name) for name in ("require_repeatable", "examine_network")),
                *((Session, "compare_samples"), (digest, "func")),
            )
            with watch.watching(*places):
                evaluate(
                    demo_network(),
                    dataset,
                    attacks=attacks,
                    max_images=max_images,
                    run_dir=Path(folder) / "run",
                    progress=False,
                )
            total = time.process_time() - started
            yield {"call": number, "identity": watch.seconds, "all": total, "share": watch.seconds / total}


class CountsInNumPy(SegmentationTask):
    """Counts its validation where no function of torch shows it."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs the accuracy."""
        predicted, masks = self.network(batch["image"]).argmax(1).numpy(), batch["mask"].numpy()
        self.log("accuracy", float((predicted == masks)[masks != 255].mean()))

    def on_validation_epoch_end(self) -> None:
        """Logs nothing more."""


def training_cost(kind: type[SegmentationTask]) -> dict[str, Any]:
    """Seconds of what is done before the attacks of a training, and of one evaluation in it."""
    network = demo_network().requires_grad_(True)
    robustness, before, attacks = RobustnessEvaluation(panels=0), Stopwatch(), Stopwatch()
    loaders = [DataLoader(SyntheticScenes(16, split=split), batch_size=4) for split in ("train", "val")]
    settings: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = Trainer(accelerator="cpu", max_epochs=1, callbacks=[robustness], **settings)
    examined = ("examine", "images", "chosen", "watch_weights", "take_weights")
    places = *((Validated, name) for name in examined), (RobustnessEvaluation, "_smoke_test")
    with before.watching(*places), attacks.watching((RobustnessEvaluation, "_evaluate")):
        trainer.fit(kind(network), loaders[0], loaders[1])
    seconds, total = before.seconds, attacks.seconds
    return {"task": kind.__name__, "before": seconds, "evaluation": total, "share": seconds / total}


def main() -> None:
    """Prints one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluation", action="store_true")
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine("cpu", options.threads))
    if options.evaluation:
        for found in evaluation_cost():
            print(json.dumps(found), flush=True)
        return
    if options.training:
        for kind in (SegmentationTask, CountsInNumPy):
            print(json.dumps(training_cost(kind)), flush=True)
        return
    for size in ((384, 480), (512, 1024)):
        print(f"digest / attack of {PASSES} passes: {digest_share(options.pairs, size):.2%}", flush=True)


if __name__ == "__main__":
    main()
