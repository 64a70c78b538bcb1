"""`evaluate.py`: attacks a trained network."""

import os
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

import segrobust
from segrobust.attacks import Attack
from segrobust.cli.base import DEMO_WEIGHTS, ROOT, WEIGHTS, SegRobustCLI, stop
from segrobust.data import SegmentationDataModule
from segrobust.evaluation.plan import PresetName
from segrobust.networks import load_weights, weights_digest
from segrobust.tasks import SegmentationTask


class EvaluateCLI(SegRobustCLI):
    """Attack a trained segmentation network and tell how robust it is. A bare command attacks the demo network.

    Reads the experiment file that trained the network. The same command continues a killed evaluation, and with more
    attacks adds them to a finished one.
    """

    demo = (
        *("--config", str(ROOT / "configs" / "demo.yaml")),
        *("--config", str(ROOT / "configs" / "demo_evaluation.yaml")),
        *("--checkpoint", str(DEMO_WEIGHTS)),
    )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what to attack, how, and how much of it."""
        super().add_arguments_to_parser(parser)
        checkpoint_help = f"weights, .safetensors or .ckpt; by default {WEIGHTS} in run_dir"
        parser.add_argument("--checkpoint", type=str | None, default=None, help=checkpoint_help)
        parser.add_argument("--split", type=Literal["val", "test"], default="val", help="data set of the data module")
        parser.add_argument(
            "--preset", type=PresetName | None, default=None, help="ready-made plan; standard if no attacks are given"
        )
        parser.add_argument(
            "--attacks",
            type=dict[str, Attack] | None,
            default=None,
            help="attacks by name, in place of a preset; see configs/attack",
        )
        parser.add_argument(
            "--eps",
            type=list[float] | None,
            default=None,
            help="radii in [0, 1] for the given attacks; 4/255 = 0.01569",
        )
        parser.add_argument(
            "--max_images",
            "--max-images",
            type=int | None,
            default=None,
            help="attack a fixed random subset of this size",
        )
        parser.add_argument("--batch_size", "--batch-size", type=int, default=1, help="images attacked together")
        parser.add_argument("--panels", type=int, default=4, help="images of which pictures are drawn")
        parser.add_argument(
            "--keep_adversarials",
            "--keep-adversarials",
            type=bool,
            default=False,
            help="keep adversarial images, float32 safetensors",
        )
        parser.add_argument(
            "--device", type=str | None, default=None, help="by default cuda where there is one, else cpu"
        )
        parser.add_argument(
            "--dry_run",
            "--dry-run",
            action="store_true",
            help="measure one pass, tell the time that the evaluation needs, and stop",
        )

    def before_instantiate_classes(self) -> None:
        """Leaves the trainer and what hangs on it alone: an evaluation needs task and data only."""
        self.config.trainer = Namespace()  # type: ignore[no-untyped-call]

    def instantiate_trainer(self, **kwargs: object) -> None:  # type: ignore[override]
        """None: the engine of the evaluation is not the trainer."""


def evaluate() -> None:
    """Entry point of `evaluate.py`: attacks the network of a task on the data of a data module."""
    cli = EvaluateCLI()
    options = cli.config_init
    if not isinstance(cli.model, SegmentationTask) or not isinstance(cli.datamodule, SegmentationDataModule):
        cli.parser.error(
            "evaluation needs a segrobust.tasks.SegmentationTask and a segrobust.data.SegmentationDataModule"
        )
    checkpoint = Path(options.checkpoint or Path(options.run_dir) / WEIGHTS)
    network = cli.model.network
    try:
        load_weights(network, checkpoint)
        report = segrobust.evaluate(
            network,
            getattr(cli.datamodule, options.split),
            preset=options.preset,
            attacks=options.attacks,
            eps=options.eps,
            max_images=options.max_images,
            run_dir=Path(options.run_dir) / f"evaluation-{weights_digest(network)[:8]}",
            batch_size=options.batch_size,
            device=options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            seed=options.seed_everything,
            rank=int(os.environ.get("RANK", 0)),
            world_size=int(os.environ.get("WORLD_SIZE", 1)),
            panels=options.panels,
            keep_adversarials=options.keep_adversarials,
            dry_run=options.dry_run,
        )
    except (ValueError, FileNotFoundError) as error:
        stop(error)
    report.print()
