"""Command lines: `train.py` trains, `evaluate.py` attacks what was trained; both read the same experiment files."""

import json
import os
import sys
from pathlib import Path
from typing import Literal, NoReturn

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import segrobust
from segrobust.attacks import Attack
from segrobust.callbacks import require_wandb_login
from segrobust.data import SegmentationDataModule
from segrobust.evaluation.plan import PresetName
from segrobust.networks import load_weights, save_weights, weights_digest
from segrobust.tasks import SegmentationTask

ROOT = Path(__file__).parent.parent
DEMO_WEIGHTS = ROOT / "benchmarks" / "networks" / "scenes.safetensors"
WEIGHTS = "weights.safetensors"


class SegRobustCLI(LightningCLI):
    """What both commands share: task, data, trainer and seed by LightningCLI, and the folder of the run."""

    demo: tuple[str, ...] = ()
    """Arguments of a bare command."""

    def __init__(self) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"version": segrobust.__version__, "description": type(self).__doc__},
            args=None if sys.argv[1:] else list(self.demo),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the folder of the run."""
        help_text = "folder of this run: settings, checkpoints, logs, weights, evaluations"
        parser.add_argument("--run_dir", "--run-dir", type=str, default="runs/run", help=help_text)

    def instantiate_classes(self) -> None:
        """Makes what the settings name; what they name wrongly is told without a traceback."""
        try:
            super().instantiate_classes()
        except (ValueError, OSError) as error:
            stop(error)


class TrainCLI(SegRobustCLI):
    """Train a segmentation network on clean or attacked images. A bare command trains the demo on generated scenes."""

    demo = (
        *("--config", str(ROOT / "configs" / "demo.yaml")),
        *("--model.init_args.initial_weights", str(DEMO_WEIGHTS)),
    )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds resumption and the checkpoints that it needs."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--resume", type=bool, default=False, help="continue the run in run_dir where it stopped")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True})
        parser.link_arguments("run_dir", "checkpoint.dirpath", compute_fn=_checkpoint_folder)

    def before_instantiate_classes(self) -> None:
        """Refuses to mix two runs; logs to CSV files, new ones at each start, unless a logger is given."""
        run_dir, last = Path(self.config.run_dir), _last_checkpoint(self.config.run_dir)
        if last.exists() and not self.config.resume:
            self.parser.error(f"{run_dir} holds a run: continue it with --resume true, or choose another --run_dir")
        if self.config.resume and not last.exists():
            self.parser.error(f"nothing to resume: there is no {last}; leave out --resume to start the run")
        if self.config.trainer.logger is None:
            self.config.trainer.logger = Namespace(  # type: ignore[no-untyped-call]
                class_path="lightning.pytorch.loggers.CSVLogger",
                init_args=Namespace(save_dir=str(run_dir), name="logs"),  # type: ignore[no-untyped-call]
            )


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


def train() -> None:
    """Entry point of `train.py`: trains, then writes the weights with what they were trained for."""
    cli = TrainCLI()
    try:
        require_wandb_login(cli.trainer.loggers)
    except ValueError as error:
        stop(error)
    last = _last_checkpoint(cli.config.run_dir)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=str(last) if cli.config.resume else None, weights_only=True)
    if cli.trainer.is_global_zero and isinstance(cli.model, SegmentationTask):
        weights = Path(cli.config.run_dir) / WEIGHTS
        metadata = {"segrobust_version": segrobust.__version__}
        if isinstance(cli.datamodule, SegmentationDataModule):
            metadata["label_space"] = json.dumps(cli.datamodule.label_space.to_dict())
        save_weights(cli.model.network, weights, metadata=metadata)
        cli.trainer.print(f"weights  {weights}\nlogs     {cli.trainer.log_dir}")


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


def stop(error: Exception) -> NoReturn:
    """Ends the process with the message of an error that the user can mend."""
    sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


def _checkpoint_folder(run_dir: str) -> str:
    return str(Path(run_dir) / "checkpoints")


def _last_checkpoint(run_dir: str) -> Path:
    return Path(_checkpoint_folder(run_dir)) / "last.ckpt"
