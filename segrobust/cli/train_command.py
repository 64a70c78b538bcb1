"""`segrobust train`: trains a network, then writes its weights with their record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.strategies import StrategyRegistry

from segrobust.callbacks import TimeLeft, require_wandb_login
from segrobust.cli.console import say, stop, without_traceback
from segrobust.cli.monitors import KnownMonitors, UnknownMonitorError
from segrobust.cli.nearest import did_you_mean
from segrobust.cli.segrobust_cli import WEIGHTS, SegRobustCLI
from segrobust.data import SegmentationDataModule
from segrobust.functional.devices import require_device
from segrobust.networks import make_record, save_weights
from segrobust.tasks import (
    CheckpointWriteError,
    DamagedCheckpointError,
    ScheduleMismatchError,
    SegmentationTask,
    use_atomic_checkpoints,
)
from segrobust.tasks.checkpoint_files import ResumeChoice, newest_complete

_FAULTS: Final = (
    *(ScheduleMismatchError, FloatingPointError, CheckpointWriteError, DamagedCheckpointError),
    *(UnknownMonitorError, MisconfigurationException),
)
"""Errors of a training that the user can fix."""

_DEVICES: Final = {"gpu": "cuda", "cuda": "cuda", "mps": "mps"}
"""Devices of torch that accelerators of Lightning need."""


class TrainCLI(SegRobustCLI):
    """Trains a network on clean or attacked images."""

    command = "train"
    callbacks = (TimeLeft, KnownMonitors)
    start: ResumeChoice | None = None
    """Where a resumed training starts."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the checkpoints that --resume needs."""
        super().add_arguments_to_parser(parser)
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True})
        parser.link_arguments("run_dir", "checkpoint.dirpath", compute_fn=_checkpoint_folder)

    def check_settings(self) -> None:
        """Looks for the accelerator and the strategy too.

        Raises:
            ValueError: there is none of this name, or a number is too small.
        """
        super().check_settings()
        wanted, strategy = self.config.trainer.accelerator, self.config.trainer.strategy
        for option, value, names in (
            ("accelerator", wanted, ("auto", "gpu", *AcceleratorRegistry.available_accelerators())),
            ("strategy", strategy, ("auto", *StrategyRegistry.available_strategies())),
        ):
            if isinstance(value, str) and value not in names:
                raise ValueError(f"--trainer.{option}: there is no {value!r}: {did_you_mean(value, names)}")
        if isinstance(wanted, str) and wanted in _DEVICES:
            try:
                require_device(_DEVICES[wanted])
            except ValueError as error:
                raise ValueError(f"--trainer.accelerator {wanted}: {error}; or use auto") from None

    def before_instantiate_classes(self) -> None:
        """Finds the checkpoint to resume from, and refuses to mix two runs.

        Without a logger, logs go to CSV files, new ones at each start.
        """
        run_dir, folder = Path(self.config.run_dir), Path(_checkpoint_folder(self.config.run_dir))
        files = sorted(path for path in folder.glob("*.ckpt") if path.is_file() or path.is_dir())
        if files and not self.config.resume:
            stop(f"{run_dir} holds a run: continue it with --resume true, or choose another --run_dir")
        if self.config.resume and not files:
            stop(f"nothing to resume: {folder} holds no checkpoint; leave out --resume to start the run")
        if self.config.resume:
            with without_traceback(DamagedCheckpointError):
                self.start = newest_complete(files)
        if self.config.trainer.logger is None:
            self.config.trainer.logger = Namespace(  # type: ignore[no-untyped-call]
                class_path="lightning.pytorch.loggers.CSVLogger",
                init_args=Namespace(save_dir=str(run_dir), name="logs"),  # type: ignore[no-untyped-call]
            )


def train_command(arguments: Sequence[str]) -> None:
    """Trains, then writes the weights with their record.

    Args:
        arguments: what follows `train` on the command line; none for the demo.
    """
    cli = TrainCLI(arguments)
    with without_traceback(ValueError):
        require_wandb_login(cli.trainer.loggers)
    use_atomic_checkpoints(cli.trainer)
    if cli.start is not None and cli.trainer.is_global_zero:
        _say_start(cli.start)
    start = None if cli.start is None else str(cli.start.path)
    with without_traceback(*_FAULTS):
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=start, weights_only=True)
    logs = cli.trainer.log_dir  # all processes ask for it together
    if cli.trainer.is_global_zero and isinstance(cli.model, SegmentationTask):
        weights = Path(cli.config.run_dir) / WEIGHTS
        space = cli.datamodule.label_space if isinstance(cli.datamodule, SegmentationDataModule) else None
        with without_traceback(OSError):
            save_weights(cli.model.network, weights, metadata=make_record(cli.model.network, space))
        cli.trainer.print(f"weights  {weights}\nlogs     {logs}")


def _say_start(start: ResumeChoice) -> None:
    """Prints which checkpoint is taken, and why."""
    for fault in start.passed_over:
        say(f"warning  {fault}; it is not used")
    say(f"resume   {start.path}, epoch {start.epoch}, step {start.step}: the newest complete checkpoint")


def _checkpoint_folder(run_dir: str) -> str:
    return str(Path(run_dir) / "checkpoints")
