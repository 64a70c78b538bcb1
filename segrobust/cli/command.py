"""What all commands share: task, data and seed by LightningCLI, the folder of the run, and errors without traceback."""

import sys
from pathlib import Path
from typing import Final, NoReturn

from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from rich.console import Console

import segrobust

ROOT: Final = Path(__file__).parent.parent.parent
DEMO_WEIGHTS: Final = ROOT / "benchmarks" / "networks" / "scenes.safetensors"
WEIGHTS: Final = "weights.safetensors"


class SegRobustCLI(LightningCLI):
    """What both commands share: task, data, trainer and seed by LightningCLI, and the folder of the run."""

    demo: tuple[str, ...] = ()
    """Arguments of a bare command."""

    callbacks: tuple[type[Callback], ...] = ()
    """What every trainer of the command gets besides what the configuration names."""

    def __init__(self) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={"callbacks": [make() for make in self.callbacks]},
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


def say(line: str) -> None:
    """Prints a line as it is."""
    Console(highlight=False).print(line, markup=False, soft_wrap=True)


def stop(error: Exception) -> NoReturn:
    """Ends the process with the message of an error that the user can mend."""
    sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")
