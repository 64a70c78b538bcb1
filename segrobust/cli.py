"""Command lines: `train.py` trains, `evaluate.py` attacks what was trained; both read the same experiment files."""

import json
import sys
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import segrobust
from segrobust.data import SegmentationDataModule
from segrobust.networks import save_weights
from segrobust.tasks import SegmentationTask

CONFIGS = Path(__file__).parent.parent / "configs"
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
        parser.add_argument("--run_dir", type=str, default="runs/run", help=help_text)


class TrainCLI(SegRobustCLI):
    """Train a segmentation network on clean or attacked images. A bare command trains the demo on generated scenes."""

    demo = ("--config", str(CONFIGS / "demo.yaml"))

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds resumption and the checkpoints that it needs."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--resume", type=bool, default=False, help="continue the run in run_dir where it stopped")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True})
        parser.link_arguments("run_dir", "checkpoint.dirpath", compute_fn=_checkpoint_folder)

    def before_instantiate_classes(self) -> None:
        """Refuses to mix two runs; logs to CSV files in the run's folder unless a logger is configured."""
        run_dir, last = Path(self.config.run_dir), _last_checkpoint(self.config.run_dir)
        if last.exists() and not self.config.resume:
            self.parser.error(f"{run_dir} holds a run: continue it with --resume true, or choose another --run_dir")
        if self.config.resume and not last.exists():
            self.parser.error(f"nothing to resume: there is no {last}; leave out --resume to start the run")
        if self.config.trainer.logger is None:
            self.config.trainer.logger = Namespace(  # type: ignore[no-untyped-call]
                class_path="lightning.pytorch.loggers.CSVLogger",
                init_args=Namespace(save_dir=str(run_dir), name="", version=""),  # type: ignore[no-untyped-call]
            )


def train() -> None:
    """Entry point of `train.py`: trains, then writes the weights with what they were trained for."""
    cli = TrainCLI()
    last = _last_checkpoint(cli.config.run_dir)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=str(last) if cli.config.resume else None, weights_only=True)
    if cli.trainer.is_global_zero and isinstance(cli.model, SegmentationTask):
        weights = Path(cli.config.run_dir) / WEIGHTS
        metadata = {"segrobust_version": segrobust.__version__}
        if isinstance(cli.datamodule, SegmentationDataModule):
            metadata["label_space"] = json.dumps(cli.datamodule.label_space.to_dict())
        save_weights(cli.model.network, weights, metadata=metadata)
        cli.trainer.print(f"weights  {weights}\nsettings {weights.with_name('config.yaml')}")


def _checkpoint_folder(run_dir: str) -> str:
    return str(Path(run_dir) / "checkpoints")


def _last_checkpoint(run_dir: str) -> Path:
    return Path(_checkpoint_folder(run_dir)) / "last.ckpt"
